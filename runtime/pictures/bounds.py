"""What a file may make its decoder do: counted in its structure, before any of it is decoded.

A few bytes can stand for much work: a PNG of a million empty chunks, a progressive JPEG whose hundred scans each pass
over all pixels.
"""

from __future__ import annotations

import struct

from darkroom.errors import ImageInvalid
from runtime.pictures.header import Header

MOST_CHUNKS = 20_000  # a PNG of 20 MiB whose encoder writes a kilobyte at a time
MOST_SCANS = 100
MOST_SCANNED = 300_000_000  # pixels times scans: twelve of the largest image; encoders write about ten
_START_OF_SCAN = b"\xff\xda"


def refuse_costly(data: bytes, header: Header) -> None:
    """Raises: ImageInvalid."""
    if header.format == "JPEG":
        _refuse_scans(data.count(_START_OF_SCAN), header.width * header.height)
    else:
        _refuse_chunks(data, png=header.format == "PNG")


def _refuse_scans(scans: int, pixels: int) -> None:
    if scans > MOST_SCANS or (scans > 1 and scans * pixels > MOST_SCANNED):
        most = min(MOST_SCANS, MOST_SCANNED // pixels)
        raise ImageInvalid(f"A JPEG of this size may have at most {most} scans; save it as a baseline one.")


def _refuse_chunks(data: bytes, *, png: bool) -> None:
    """Of a PNG (section 5.3: length, type, data, CRC) or a RIFF file (type, length, data, to an even length)."""
    place, step = (8, 12) if png else (12, 8)
    for _ in range(MOST_CHUNKS):
        if place + step > len(data):
            return
        if png:
            (length,) = struct.unpack_from(">I", data, place)
        else:
            (length,) = struct.unpack_from("<I", data, place + 4)
            length += length & 1
        place += step + length
    raise ImageInvalid(f"The image may consist of at most {MOST_CHUNKS} chunks.")
