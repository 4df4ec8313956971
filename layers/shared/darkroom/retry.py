"""How often something is tried, and how long to wait in between."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """Up to `tries` tries. The first pause is `pause` seconds; each one after is twice as long."""

    tries: int
    pause: float = 0.0

    def pauses(self) -> Iterator[float]:
        """Seconds to wait after each try but the last."""
        pause = self.pause
        for _ in range(self.tries - 1):
            yield pause
            pause *= 2

    def call(
        self,
        attempt: Callable[[], T],
        *,
        on: type[Exception] | tuple[type[Exception], ...],
        sleep: Callable[[float], None] = time.sleep,
    ) -> T:
        """Try until it works. An error that is not listed in `on` passes at once, and the last one always."""
        for pause in self.pauses():
            try:
                return attempt()
            except on:
                sleep(pause)
        return attempt()

    async def call_async(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        on: type[Exception] | tuple[type[Exception], ...],
        sleep: Callable[[float], Awaitable[None]],
    ) -> T:
        """The same without blocking the event loop."""
        for pause in self.pauses():
            try:
                return await attempt()
            except on:
                await sleep(pause)
        return await attempt()
