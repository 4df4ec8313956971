"""Whether a request could be served now: the stores that it needs answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from api.blocking import Run
from darkroom.errors import DarkroomError, JobNotFound
from darkroom.jobs import JobStore
from darkroom.storage import ObjectStore

_FRESH_SECONDS = 2.0  # anybody may ask, as often as they like
NOTHING = "ready/"  # a folder that there is not: a listing of it fails where the bucket is missing, a look-up does not
_NOBODYS = "0" * 32  # a job that there is not


class Readiness:
    """Asks each store at most every two seconds, and waits no longer for it; lives on one event loop."""

    def __init__(
        self,
        jobs: JobStore,
        images: ObjectStore,
        run: Run,
        *,
        seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._seconds = seconds
        self._clock = clock
        self._looks: dict[str, Callable[[], object]] = {
            "job store": lambda: jobs.find(_NOBODYS),
            "object store": lambda: list(images.keys(NOTHING)),
        }
        self._looking: dict[str, asyncio.Future[bool]] = {}
        self._looked_at = -float("inf")

    async def missing(self) -> list[str]:
        """The stores that do not answer, or not in time; one that hangs is not asked again before it has answered."""
        if self._clock() - self._looked_at >= _FRESH_SECONDS:
            self._looked_at = self._clock()
            for name, look in self._looks.items():
                if name not in self._looking or self._looking[name].done():
                    self._looking[name] = asyncio.ensure_future(self._answers(look))
        await asyncio.wait(self._looking.values(), timeout=self._seconds)
        return [name for name, looking in self._looking.items() if not (looking.done() and looking.result())]

    async def _answers(self, look: Callable[[], object]) -> bool:
        try:
            await self._run(look)
        except JobNotFound:
            return True
        except DarkroomError:
            return False
        return True
