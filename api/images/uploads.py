"""Places for large images, and the data URIs of a request: images go to the object store, jobs carry a reference."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from api.limits.quota import UploadQuota
from api.schemas import Document
from darkroom.contracts import Contract, GenerationRequest
from darkroom.errors import DarkroomError, ImageTooLarge, StorageUnavailable
from darkroom.images import data_uri, uploads
from darkroom.settings import Settings
from darkroom.storage import ObjectStore


class UploadRequest(Contract):
    """The image file that is going to be sent."""

    size: Annotated[int, Field(ge=1, description="bytes")]
    content_type: Literal["image/png", "image/jpeg", "image/webp"] = "image/png"


class UploadDocument(Document):
    """Where to send the file, and what to call it in a request."""

    upload: Annotated[str, Field(description="for `image` and `mask`, once the file is sent")]
    method: Literal["PUT"] = "PUT"
    url: Annotated[str, Field(description="signed; takes exactly this size and type")]
    headers: Annotated[dict[str, str], Field(description="to be sent along, as they are")]
    expires_at: Annotated[AwareDatetime, Field(description="of the URL")]


def grant(
    requested: UploadRequest,
    tenant: str,
    store: ObjectStore,
    settings: Settings,
    quota: UploadQuota,
    now: Callable[[], float] = time.time,
) -> UploadDocument:
    """A place of this tenant's for one file; `now` gives seconds since the epoch.

    Raises: ImageTooLarge, RateLimited, StorageUnavailable.
    """
    if requested.size > settings.max_upload_bytes:
        raise ImageTooLarge(f"An image may have at most {settings.max_upload_bytes} bytes.", field="/size")
    quota.take(tenant, [requested.size])
    upload_id, seconds = uploads.new_id(now()), settings.upload_url_seconds
    expires_at = datetime.fromtimestamp(int(now()) + seconds, UTC)
    signed = store.upload_url(
        uploads.key(tenant, upload_id), size=requested.size, content_type=requested.content_type, expires=seconds
    )
    return UploadDocument(
        upload=uploads.reference(upload_id), url=signed.url, headers=signed.headers, expires_at=expires_at
    )


NO_FILES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True)
class Stored:
    """A request whose data URIs are uploads now, and the keys and sizes of these."""

    request: GenerationRequest
    images: Mapping[str, int]

    def forget(self, tenant: str, store: ObjectStore, quota: UploadQuota) -> None:
        """Nobody accepted the request: nothing of it is kept."""
        quota.give_back(tenant, self.images.values())
        for key in self.images:
            with contextlib.suppress(StorageUnavailable):  # it goes with the old ones
                store.delete(key)


def without_data(
    request: GenerationRequest,
    tenant: str,
    store: ObjectStore,
    quota: UploadQuota,
    files: Mapping[str, bytes] = NO_FILES,
    now: Callable[[], float] = time.time,
) -> Stored:
    """The request with each data URI kept as an upload: jobs, queues and answers need not carry the bytes.

    `files` are images that the request names as uploads and that are kept with them: bytes by `upload:` reference.
    Raises: InvalidBase64; RateLimited, StorageUnavailable, StorageFull, and then nothing is kept.
    """
    images: dict[str, bytes] = {}

    def kept(source: str) -> str:
        if source in files:
            reference, image = source, files[source]
        elif data_uri.is_data_uri(source):
            reference, image = uploads.reference(uploads.new_id(now())), data_uri.decode(source)
        else:
            return source
        images[uploads.key_of(tenant, reference) or ""] = image
        return reference

    request = request.with_sources(kept)
    stored = Stored(request, {key: len(image) for key, image in images.items()})
    if images:
        quota.take(tenant, stored.images.values())
    try:
        for key, image in images.items():
            store.put(key, image)
    except DarkroomError:
        stored.forget(tenant, store, quota)
        raise
    return stored
