"""How calls that block are made: off the loop, but where a process serves one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Run(Protocol):
    """`await run(work, ...)` is what `work(...)` returns or raises."""

    def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Other requests go on meanwhile."""
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work, *args, **kwargs)


async def at_once(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Nothing else goes on meanwhile: for a process that serves one request at a time."""
    return work(*args, **kwargs)
