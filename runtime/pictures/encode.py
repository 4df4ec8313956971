"""Pixels -> PNG, JPEG or WebP bytes: the same pixels give the same bytes, and nothing of the prompt is inside."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from darkroom.contracts import OutputFormat
from runtime.arrays import Floats, Pixels

_SAVE: dict[OutputFormat, dict[str, Any]] = {
    OutputFormat.PNG: {"compress_level": 6},
    OutputFormat.JPEG: {"quality": 95, "subsampling": 0},
    OutputFormat.WEBP: {"quality": 92, "method": 4},
}


def to_pixels(image: Floats) -> Pixels:
    """float32 [3, H, W] in [-1, 1] -> uint8 [H, W, 3], rounded as diffusers rounds."""
    unit = np.clip(image * np.float32(0.5) + np.float32(0.5), 0.0, 1.0)
    return np.ascontiguousarray(np.round(unit * 255.0).astype(np.uint8).transpose(1, 2, 0))


def from_pixels(pixels: Pixels) -> Floats:
    """uint8 [H, W, 3] -> float32 [3, H, W] in [-1, 1], as the encoder takes it."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(127.5) - np.float32(1)


def encode_image(pixels: Pixels, output_format: OutputFormat) -> bytes:
    """uint8 [H, W, 3] -> the bytes of an image file without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, output_format.value, **_SAVE[output_format])
    return buffer.getvalue()
