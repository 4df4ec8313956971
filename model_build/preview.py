"""Preview: the affine map from latents to RGB that shows progress without running the decoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model_build.compile import Engine

_IMAGES = 16
_SIDE = 16  # of the latents
_DIGITS = 3  # coarse enough that the last bits of another machine's decoder do not change a bundle's hash


def fit(decode: Engine, channels: int, downscale: int, scaling_factor: float) -> list[list[float]]:
    """The map [channels + 1][3] with the least squared error to the decoded image, averaged over each latent's pixels.

    `decode` is the VAE decoder's engine; the map is from latents of unit variance, as samplers have them. The latents
    tried are random but smooth, as those of pictures are: white noise would decode to texture.
    """
    random = np.random.Generator(np.random.Philox(0))
    latents = np.concatenate([_smooth(random, channels, _SIDE) for _ in range(_IMAGES)])
    images = [decode({"latents": one[np.newaxis] / np.float32(scaling_factor)})[0] for one in latents]
    pixels = np.clip(np.concatenate(images), -1, 1)
    blocks = pixels.reshape(_IMAGES, 3, _SIDE, downscale, _SIDE, downscale).mean(axis=(3, 5))
    known = latents.transpose(0, 2, 3, 1).reshape(-1, channels).astype(np.float64)
    wanted = blocks.transpose(0, 2, 3, 1).reshape(-1, 3).astype(np.float64)
    fitted, *_ = np.linalg.lstsq(np.column_stack([known, np.ones(len(known))]), wanted, rcond=None)
    return [[round(float(value), _DIGITS) + 0.0 for value in row] for row in fitted]


def _smooth(random: np.random.Generator, channels: int, side: int) -> NDArray[np.float32]:
    """Latents [1, channels, side, side]: flat patches of random value and extent over a random ground."""
    latents = np.empty((1, channels, side, side), np.float32)
    latents[:] = random.standard_normal((1, channels, 1, 1), np.float32)
    for _ in range(4):
        top, left = random.integers(0, side, 2)
        height, width = random.integers(side // 4, side, 2)
        latents[:, :, top : top + height, left : left + width] = random.standard_normal((1, channels, 1, 1), np.float32)
    return latents
