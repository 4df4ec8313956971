"""A caller's patience: how a job is waited for, and what becomes of it when its caller goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from api.blocking import Run, in_thread
from darkroom.contracts import Job, Progress
from darkroom.jobs import JobStore

T = TypeVar("T")
FIRST_PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 0.05, 1.5, 0.5  # seconds between two looks at a running job


# A job and seconds -> the job as it is when it has finished, or when they are over. Raises: JobStoreUnavailable.
Wait = Callable[[Job, float], Awaitable[Job]]


@dataclass(frozen=True)
class News:
    """The newest that is known of a job: its progress, or that it has finished (then the job store has the rest).

    `preview` is a data: URI of the image so far, where there is one.
    """

    progress: Progress | None = None
    preview: str | None = None
    finished: bool = False


# A job -> its steps as they come; None where there was none for a while; last, unless this process stops, the finished
# job itself.
Follow = Callable[[Job], AsyncIterator[News | Job | None]]


def polling(
    jobs: JobStore,
    run: Run = in_thread,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Wait:
    """A wait that looks at the job store again and again, less often as time goes by."""

    async def wait(job: Job, seconds: float) -> Job:
        until, pause = clock() + seconds, FIRST_PAUSE
        while not job.status.finished and (left := until - clock()) > 0:
            await sleep(min(pause, left))
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE)
            job = await run(jobs.get, job.id, tenant=job.tenant)
        return job

    return wait


async def first(work: Awaitable[T], gone: Awaitable[None]) -> T | None:
    """What `work` comes to, or None where `gone` returns before it. Neither goes on afterwards."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone)
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
