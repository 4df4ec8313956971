"""Where an image that a request brings comes from: an address, the image itself as a data URI, or an earlier upload.

Only the form is looked at here, so that a request that cannot be served is refused at once; nothing is fetched.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from darkroom.errors import RequestError
from darkroom.images import data_uri

MAX_SOURCE_CHARACTERS = 1_000_000  # a data URI; request bodies are capped below that
_UPLOAD = re.compile(r"upload:[A-Za-z0-9_-]{1,64}")
_OF_A_JOB = re.compile(r"job:([A-Za-z0-9_-]{1,64})/([0-7])")
_ADDRESSES = ("https://", "http://")  # which addresses are fetched is decided where they are fetched


def of_a_job(source: str) -> tuple[str, int] | None:
    """Job and index of the finished image that `job:ID/0` means; None for any other source."""
    named = _OF_A_JOB.fullmatch(source)
    return None if named is None else (named[1], int(named[2]))


def _checked(source: str) -> str:
    if data_uri.is_data_uri(source):
        return _checked_data(source)
    if source.lower().startswith(_ADDRESSES) or _UPLOAD.fullmatch(source) or _OF_A_JOB.fullmatch(source):
        return source
    known = "give an https address, a data URI of an image, an upload, or job:ID/0"
    raise PydanticCustomError("image_url_rejected", known)


def _checked_data(source: str) -> str:
    try:
        data_uri.decode(source)
    except RequestError as refused:
        reason = refused.detail[0].lower() + refused.detail[1:].removesuffix(".")
        raise PydanticCustomError(refused.code, "{reason}", {"reason": reason}) from None
    return source


ImageSource = Annotated[
    str,
    Field(
        max_length=MAX_SOURCE_CHARACTERS,
        examples=["https://example.com/drawing.png"],
        description="an https URL, a data URI (`data:image/png;base64,...`), `upload:` with the id of an upload, "
        "or `job:ID/0`, the first image of a finished job of yours; the URL of one will do as well",
    ),
    AfterValidator(_checked),
]
