"""Places for large images, and the data URIs of a request: images go to the object store, jobs carry a reference."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from api.schemas import Document
from darkroom.contracts import Contract, GenerationRequest
from darkroom.errors import ImageTooLarge
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
    requested: UploadRequest, tenant: str, store: ObjectStore, settings: Settings, now: Callable[[], float] = time.time
) -> UploadDocument:
    """A place of this tenant's for one file; `now` gives seconds since the epoch. Raises: ImageTooLarge."""
    if requested.size > settings.max_upload_bytes:
        raise ImageTooLarge(f"An image may have at most {settings.max_upload_bytes} bytes.", field="/size")
    upload_id, seconds = uploads.new_id(now()), settings.upload_url_seconds
    expires_at = datetime.fromtimestamp(int(now()) + seconds, UTC)
    signed = store.upload_url(
        uploads.key(tenant, upload_id), size=requested.size, content_type=requested.content_type, expires=seconds
    )
    return UploadDocument(
        upload=uploads.reference(upload_id), url=signed.url, headers=signed.headers, expires_at=expires_at
    )


def without_data(
    request: GenerationRequest, tenant: str, store: ObjectStore, now: Callable[[], float] = time.time
) -> GenerationRequest:
    """The request with each data URI kept as an upload: jobs, queues and answers need not carry the bytes.

    Raises: InvalidBase64; StorageUnavailable, StorageFull.
    """

    def kept(source: str | None) -> str | None:
        if source is None or not data_uri.is_data_uri(source):
            return source
        upload_id = uploads.new_id(now())
        store.put(uploads.key(tenant, upload_id), data_uri.decode(source))
        return uploads.reference(upload_id)

    controls = request.control and [
        control.model_copy(update={"image": kept(control.image)}) for control in request.control
    ]
    return request.model_copy(update={"image": kept(request.image), "mask": kept(request.mask), "control": controls})
