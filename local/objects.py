"""`/objects/{key}`: what the directory store's signed URLs lead to, to read an object or to send one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from starlette.responses import FileResponse

from darkroom.contracts import OutputFormat
from darkroom.errors import MethodNotAllowed
from darkroom.storage.directory import DirectoryStore
from local.exchange import Exchange

PREFIX = "/objects/"
_BODY_SECONDS = 60.0
_LONGEST_NUMBER = 20
_CONTENT_TYPES = {f".{form.value}": form.content_type for form in OutputFormat}


class SignedObjects:
    """Serves an object, or takes one, while its signature holds; `clock` is the wall clock that dates signatures."""

    def __init__(self, store: DirectoryStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def __call__(self, exchange: Exchange) -> None:
        """Raises: MethodNotAllowed, Forbidden, ObjectNotFound, StorageUnavailable, StorageFull; what `body` raises."""
        if exchange.method == "PUT":
            await self._take(exchange)
        elif exchange.method in ("GET", "HEAD"):
            await self._give(exchange)
        else:
            raise MethodNotAllowed("Objects can only be read, and uploads sent by PUT.")

    async def _take(self, exchange: Exchange) -> None:
        """An upload of exactly the size and type that were signed; nothing of any other one is read."""
        key, expires, signature = _signed_parts(exchange)
        said = exchange.headers.get("content-length", "")
        size = int(said) if said.isascii() and said.isdigit() and len(said) < _LONGEST_NUMBER else -1
        content_type = exchange.headers.get("content-type", "")
        self._store.verify_upload(key, expires, signature, self._clock(), size=size, content_type=content_type)
        body = await exchange.body(limit=size, seconds=_BODY_SECONDS)  # HTTP itself keeps it from being shorter
        await asyncio.to_thread(self._store.put, key, body)
        await exchange.respond(200, b"", None, {"X-Request-Id": exchange.request_id})

    async def _give(self, exchange: Exchange) -> None:
        key, expires, signature = _signed_parts(exchange)
        now = self._clock()
        self._store.verify(key, expires, signature, now)
        path = await asyncio.to_thread(self._store.fetch, key, Path())
        content_type = _CONTENT_TYPES.get(path.suffix, "application/octet-stream")
        headers = {
            "Cache-Control": f"private, max-age={max(0, int(expires) - int(now))}, immutable",
            "X-Content-Type-Options": "nosniff",
            "X-Request-Id": exchange.request_id,
        }
        response = FileResponse(path, media_type=content_type, headers=headers)
        await response(exchange.scope, exchange.receive, exchange.send)


def _signed_parts(exchange: Exchange) -> tuple[str, str, str]:
    """Key, expiry and signature, as a signed URL has them."""
    query = parse_qs(exchange.scope["query_string"].decode("latin-1"))
    expires, signature = (query.get(name, [""])[0] for name in ("expires", "signature"))
    return exchange.path.removeprefix(PREFIX), expires, signature
