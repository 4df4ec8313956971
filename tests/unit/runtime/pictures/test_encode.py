"""Pixels -> image files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from darkroom.contracts import OutputFormat
from runtime.pictures.encode import encode_image, to_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)


@pytest.mark.parametrize("output_format", OutputFormat)
def test_each_format_is_what_it_says(output_format: OutputFormat) -> None:
    with Image.open(io.BytesIO(encode_image(PIXELS, output_format))) as image:
        assert (image.format or "").lower() == output_format.value
        assert (image.size, image.mode) == ((16, 24), "RGB")
        assert not image.getexif()
        assert not getattr(image, "text", {})


@pytest.mark.parametrize("output_format", OutputFormat)
def test_the_same_pixels_give_the_same_bytes(output_format: OutputFormat) -> None:
    assert encode_image(PIXELS, output_format) == encode_image(PIXELS.copy(), output_format)


def test_png_loses_nothing() -> None:
    with Image.open(io.BytesIO(encode_image(PIXELS, OutputFormat.PNG))) as image:
        assert np.array_equal(np.asarray(image), PIXELS)


def test_pixels_are_clipped_and_rounded_as_in_diffusers() -> None:
    image = np.array([-2.0, -1.0, 0.0, 0.004, 1.0, 5.0], np.float32).reshape(1, 1, 6).repeat(3, axis=0)
    assert to_pixels(image)[0, :, 0].tolist() == [0, 0, 128, 128, 255, 255]
    assert to_pixels(image).shape == (1, 6, 3)
