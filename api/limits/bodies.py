"""The memory that request bodies take, of all connections together."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from darkroom.errors import MalformedRequest, Overloaded, PayloadTooLarge

_SHARE = 4  # a caller may hold one part in so many
_RETRY_SECONDS = 2
_GZIP_WINDOW = 31  # zlib: 15 bits of window, and gzip's header and trailer

GiveBack = Callable[[], Awaitable[None]]  # once; after that it does nothing


def too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body may have at most {most} bytes; send images ahead of it, by POST /v1/uploads.")


def unpacked(body: bytes, most: int) -> bytes:
    """The content of a gzip file (RFC 1952) of one member. Raises: MalformedRequest; PayloadTooLarge, and no more than
    `most` bytes were unpacked."""
    reader = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = reader.decompress(body, most + 1)
    except zlib.error:
        raise MalformedRequest("The body is not the gzip file that Content-Encoding says.") from None
    if len(content) > most:
        raise too_large(most)
    if not reader.eof or reader.unused_data:
        raise MalformedRequest("The body is not one whole gzip file.")
    return content


class Bodies:
    """At most `most` bytes are held, and a quarter of them by one caller; others wait before they are read.

    What has its room can be read to its end, so that nobody waits for room which only another one that waits could
    give. A body may be larger than a caller's share, then it is held alone.
    """

    def __init__(self, most: int) -> None:
        self.held = 0
        self._most = most
        self._by_caller: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def room(self, caller: str, size: int, *, seconds: float) -> AsyncIterator[GiveBack]:
        """Room for one body of `size` bytes, until the context ends or it is given back before.

        Raises: Overloaded, where there was none for so many seconds.
        """
        taken: list[int] = []

        async def give_back() -> None:
            if taken:
                self._count(caller, -taken.pop())
                async with self._changed:
                    self._changed.notify_all()

        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._has(caller, size))
                self._count(caller, size)
                taken.append(size)
        except TimeoutError:
            raise Overloaded("Too many request bodies are on their way.", retry_after=_RETRY_SECONDS) from None
        try:
            yield give_back
        finally:
            await give_back()

    def _has(self, caller: str, size: int) -> bool:
        def fits(held: int, most: int) -> bool:
            return not held or held + size <= most

        return fits(self.held, self._most) and fits(self._by_caller[caller], self._most // _SHARE)

    def _count(self, caller: str, size: int) -> None:
        self.held += size
        self._by_caller[caller] += size
        if not self._by_caller[caller]:
            del self._by_caller[caller]
