"""`/objects/{key}`: what the directory store's signed URLs lead to, to read an object or to send one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from starlette.responses import FileResponse, Response

from api import submission
from api.blocking import in_thread
from api.call import Call
from darkroom.contracts import OutputFormat
from darkroom.errors import RangeNotSatisfiable, UploadExists
from darkroom.storage.directory import DirectoryStore

PREFIX = "/objects/"
_BODY_SECONDS = 60.0
_LONGEST_NUMBER = 20
_RANGE = re.compile(r"bytes=(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-0*[1-9]\d{0,17})")
_CONTENT_TYPES = {f".{form.value}": form.content_type for form in OutputFormat}


class SignedObjects:
    """Serves an object, or takes one, while its signature holds; `clock` is the wall clock that dates signatures."""

    def __init__(self, store: DirectoryStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._coming: set[str] = set()  # keys of uploads that are on their way

    async def take(self, call: Call) -> Response:
        """An upload of exactly the size and type that were signed, once; nothing of any other one is read.

        It goes to the disk as it comes. Raises: Forbidden, UploadExists, StorageUnavailable, StorageFull; what
        `Call.read` raises.
        """
        key, expires, signature = _signed_parts(call)
        length = call.headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < _LONGEST_NUMBER else -1
        content_type = call.headers.get("content-type", "")
        self._store.verify_upload(key, expires, signature, self._clock(), size=size, content_type=content_type)
        if key in self._coming or await in_thread(self._store.exists, key):
            raise UploadExists
        self._coming.add(key)
        try:
            with self._store.writing(key) as writing:

                async def keep(part: bytes) -> None:
                    await in_thread(writing.write, part)

                await call.pass_on(keep, limit=size, seconds=_BODY_SECONDS)  # HTTP itself keeps it from being shorter
                await in_thread(writing.commit, replace=False)
        finally:
            self._coming.discard(key)
        return Response()

    def give(self, call: Call) -> Response:
        """Raises: Forbidden, ObjectNotFound, StorageUnavailable."""
        key, expires, signature = _signed_parts(call)
        now = self._clock()
        self._store.verify(key, expires, signature, now)
        path = self._store.fetch(key, Path())
        content_type = _CONTENT_TYPES.get(path.suffix, "application/octet-stream")
        headers = {
            "Cache-Control": f"private, max-age={max(0, int(expires) - int(now))}, immutable",
        }
        file = path.stat()
        if refused := _without_bad_range(call, file.st_size):
            return refused
        response = FileResponse(path, media_type=content_type, headers=headers, stat_result=file)
        if submission.not_modified(call.headers, etag := response.headers["etag"]):
            return Response(status_code=304, headers={**headers, "ETag": etag})
        return response


def _without_bad_range(call: Call, size: int) -> Response | None:
    """Take a `Range` that is not one range from the request, as RFC 9110 (14.2) allows; refuse one beyond the end."""
    match = _RANGE.fullmatch(call.headers.get("range", ""))
    if match is None or (match["last"] and match["first"] and int(match["last"]) < int(match["first"])):
        call.scope["headers"] = [one for one in call.scope["headers"] if one[0] != b"range"]
    elif match["first"] and int(match["first"]) >= size:
        return call.answers.problem(RangeNotSatisfiable(), {"Content-Range": f"bytes */{size}"})
    return None


def _signed_parts(call: Call) -> tuple[str, str, str]:
    """Key, expiry and signature, as a signed URL has them."""
    return call.path.removeprefix(PREFIX), call.query.get("expires", ""), call.query.get("signature", "")
