"""`/objects/{key}`: what the directory store's signed URLs lead to."""

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
_CONTENT_TYPES = {f".{form.value}": form.content_type for form in OutputFormat}


class SignedObjects:
    """Serves an object while its signature holds; `clock` is the wall clock that signatures are dated by."""

    def __init__(self, store: DirectoryStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def __call__(self, exchange: Exchange) -> None:
        """Raises: MethodNotAllowed, Forbidden, ObjectNotFound, StorageUnavailable."""
        if exchange.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("Objects can only be read.")
        key = exchange.path.removeprefix(PREFIX)
        query = parse_qs(exchange.scope["query_string"].decode("latin-1"))
        expires, signature = (query.get(name, [""])[0] for name in ("expires", "signature"))
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
