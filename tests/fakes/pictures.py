"""Image files, sound and otherwise."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def file(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green over blue, white."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, WHITE
    return Image.fromarray(pixels)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int, pixels: bytes = b"", *, colour: int = 2, bits: int = 8) -> bytes:
    """A PNG that says this size, whatever `pixels` (compressed scan lines) it then holds."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def bomb() -> bytes:
    """A small file that unpacks to 12,000 x 12,000 pixels."""
    line = zlib.compressobj(9)
    packed = b"".join(line.compress(bytes(1 + 1500)) for _ in range(12_000)) + line.flush()
    return png_of_size(12_000, 12_000, packed, colour=0, bits=1)


def animation(form: str) -> bytes:
    frames = [quarters(), quarters().transpose(Image.Transpose.ROTATE_180)]
    return file(frames[0], form, save_all=True, append_images=frames[1:], duration=100)
