"""Denoised estimate -> data URI."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from runtime.pictures.preview import Previewer


def test_a_preview_is_a_small_jpeg_of_the_affine_map(manifest) -> None:
    denoised = np.zeros((4, 6, 8), np.float32)
    denoised[0] = 2.0
    uri = Previewer(manifest.latents).data_uri(denoised)
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("JPEG", (32, 24))
        red, green, blue = np.asarray(image).reshape(-1, 3).mean(axis=0)
    assert red > 250
    assert abs(green - 128) < 4
    assert abs(blue - 128) < 4
