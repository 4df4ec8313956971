"""What an image file says of itself in its first bytes: format and size, read before anything is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from darkroom.errors import ImageFormatUnsupported, ImageInvalid

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_START_OF_SCAN, _END = 0xDA, 0xD9


@dataclass(frozen=True)
class Header:
    """`format` is Pillow's name of it; `width` and `height` are in pixels, as stored, before any rotation."""

    format: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """The header of a PNG, JPEG or WebP file. Raises: ImageFormatUnsupported, ImageInvalid (it says no size)."""
    try:
        if data.startswith(_PNG):
            header = Header("PNG", *_png_size(data))
        elif data.startswith(_JPEG):
            header = Header("JPEG", *_jpeg_size(data))
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            header = Header("WEBP", *_webp_size(data))
        else:
            raise ImageFormatUnsupported("Send a PNG, JPEG or WebP image; its bytes are none of these.")
    except (struct.error, IndexError):
        raise ImageInvalid("The image ends before it says its size.") from None
    if not (header.width and header.height):
        raise ImageInvalid("The image says that it has no pixels.")
    return header


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise ImageInvalid("The PNG does not begin with its header.")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walks the segments up to the start of frame."""
    place = 2
    while True:
        if data[place] != 0xFF:
            raise ImageInvalid("The JPEG is damaged before it says its size.")
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif marker in _ALONE:
            place += 2
        elif marker in (_START_OF_SCAN, _END):
            raise ImageInvalid("The JPEG does not say its size.")
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            place += 2 + max(2, length)


def _webp_size(data: bytes) -> tuple[int, int]:
    """The canvas of the extended format, or the one frame (RFC 9649)."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
        return width + 1, height + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ImageInvalid("The WebP does not say its size.")
