"""A trajectory's denoised estimate -> a small JPEG, without running the decoder."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from darkroom.bundles.manifest import LatentSpec
from runtime.arrays import Floats
from runtime.pictures.encode import to_pixels

_QUALITY = 70


class Previewer:
    """Applies the manifest's affine map from latents to RGB and scales the result up to half the image's size."""

    def __init__(self, latents: LatentSpec) -> None:
        rgb_map = np.array(latents.preview, np.float32)
        self._weights, self._constant = rgb_map[:-1], rgb_map[-1]
        self._scale = max(1, latents.downscale // 2)

    def data_uri(self, denoised: Floats) -> str:
        """float32 [C, h, w] -> `data:image/jpeg;base64,...`"""
        rgb = np.tensordot(self._weights, denoised, axes=(0, 0)) + self._constant[:, None, None]
        small = Image.fromarray(to_pixels(rgb))
        large = small.resize((small.width * self._scale, small.height * self._scale), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        large.save(buffer, "jpeg", quality=_QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
