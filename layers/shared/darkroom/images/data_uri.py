"""`data:image/png;base64,...` (RFC 2397) -> bytes, strictly."""

from __future__ import annotations

import binascii

from darkroom.errors import ImageUrlRejected, InvalidBase64

_SCHEME = "data:"


def is_data_uri(source: str) -> bool:
    return source[: len(_SCHEME)].lower() == _SCHEME


def decode(uri: str) -> bytes:
    """The bytes of an image's data URI. What image it is, its bytes tell; the media type need only be some image's.

    Base64 is RFC 4648's standard alphabet with its padding, and nothing else: no white space, no URL-safe letters.

    Raises: ImageUrlRejected (no image, or not in base64), InvalidBase64.
    """
    head, comma, text = uri[len(_SCHEME) :].partition(",")
    media_type, *parameters = head.lower().split(";")
    if not comma or not media_type.startswith("image/") or parameters[-1:] != ["base64"]:
        raise ImageUrlRejected("A data URI must hold an image in base64: data:image/png;base64,...")
    try:
        if len(text) % 4:  # Python 3.11 overlooks one = too many
            raise ValueError
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError among them
        raise InvalidBase64("The data URI's image is not standard base64 with its padding.") from None
