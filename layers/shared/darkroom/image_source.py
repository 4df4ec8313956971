"""Where an image that a request brings comes from: an address, the image itself as a data URI, or an earlier upload.

Only the form is looked at here, so that a request that cannot be served is refused at once; nothing is fetched.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MAX_SOURCE_CHARACTERS = 1_000_000  # a data URI; request bodies are capped below that
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,")
_UPLOAD = re.compile(r"upload:[A-Za-z0-9_-]{1,64}")
_ADDRESSES = ("https://", "http://")  # which addresses are fetched is decided where they are fetched


def _checked(source: str) -> str:
    if source[:5].lower() == "data:":
        return _checked_data(source)
    if source.lower().startswith(_ADDRESSES) or _UPLOAD.fullmatch(source):
        return source
    raise PydanticCustomError("image_url_rejected", "give an https address, a data URI of an image, or an upload")


def _checked_data(source: str) -> str:
    head = _DATA_URI.match(source)
    if head is None:
        raise PydanticCustomError("image_url_rejected", "a data URI must begin with data:image/...;base64,")
    try:
        base64.b64decode(source[head.end() :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise PydanticCustomError("invalid_base64", "what follows base64, is not base64") from None
    return source


ImageSource = Annotated[
    str,
    Field(
        max_length=MAX_SOURCE_CHARACTERS,
        examples=["https://example.com/drawing.png"],
        description="an https URL, a data URI (`data:image/png;base64,...`) or `upload:` with the id of an upload",
    ),
    AfterValidator(_checked),
]
