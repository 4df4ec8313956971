"""Work that keeps a processor busy: one piece at a time, and the callers take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from api.blocking import Run

P = ParamSpec("P")
T = TypeVar("T")


class Turns:
    """Python runs one thread at a time, so that each more that computes would keep the loop waiting.

    Of a caller's pieces one at most waits for the processor; so whoever sends many waits behind themselves.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._processor = asyncio.Lock()  # first come, first served
        self._callers: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, caller: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work(...)` returns or raises."""
        own = self._callers.setdefault(caller, asyncio.Lock())
        async with own, self._processor:
            return await self._run(work, *args, **kwargs)
