"""A place for an image that is too large for a request's body."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from api.schemas.document import Document
from darkroom.contracts import Contract


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
