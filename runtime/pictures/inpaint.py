"""Masks: which latents are drawn again, and how the result is pasted back so that everything else stays as it was."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from runtime.arrays import Floats, Pixels

REACH = 4  # pixels around the mask in which the new picture fades into the old one


def redrawn(mask: Pixels, downscale: int) -> Floats:
    """uint8 [H, W], 255 where to draw again -> float32 [1, h, w], 1 for latents of which a pixel is within reach."""
    widest = _widened(mask)[-1] > 0
    height, width = mask.shape
    cells = widest.reshape(height // downscale, downscale, width // downscale, downscale)
    return np.asarray(cells.any(axis=(1, 3)), np.float32)[None]


def paste(picture: Pixels, drawn: Pixels, mask: Pixels) -> Pixels:
    """The pixels of `drawn` within `mask`, those of `picture` from `REACH` pixels outside it on, fading in between."""
    weights = np.asarray(np.mean(_widened(mask), axis=0, dtype=np.float32))[:, :, None] / np.float32(255)
    mixed: Pixels = np.round(weights * drawn + (1 - weights) * picture).astype(np.uint8)
    return mixed


def _widened(mask: Pixels) -> list[Pixels]:
    """The mask, and the mask grown by 1 to `REACH` pixels."""
    grown = [Image.fromarray(mask)]
    for _ in range(REACH):
        grown.append(grown[-1].filter(ImageFilter.MaxFilter(3)))
    return [np.asarray(image) for image in grown]
