"""The autoencoder: scaled latents to images and back. Large images are processed in tiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from darkroom.bundles.manifest import LatentSpec, Target
from darkroom.gpu import PROVIDERS
from runtime.arrays import Floats
from runtime.denoising.tiling import in_tiles
from runtime.engines import Engine

TILE = 512  # pixels a side, as Stable Diffusion's own autoencoder has it in diffusers
_CPU_TILES_BEYOND = 768  # pixels a side


def tile_beyond(configured: int | None, target: Target) -> int:
    """The side in pixels beyond which images go in tiles; 0: only those that memory runs out for.

    As configured; else 768 on a CPU, to keep memory low, and 0 on a GPU, which says in time that its memory is full.
    """
    if configured is not None:
        return configured
    return 0 if target.options.get("provider") in PROVIDERS else _CPU_TILES_BEYOND


class Autoencoder:
    """Runs the engine on one image a call, so that its pixels depend on no other."""

    def __init__(self, engine: Engine, spec: LatentSpec, tile_beyond: int) -> None:
        """Images with a side of more than `tile_beyond` pixels go in tiles; 0: only those that memory runs out for."""
        self._engine = engine
        self._downscale = spec.downscale
        self._scaling, self._shift = np.float32(spec.scaling_factor), np.float32(spec.shift_factor)
        self._tile_beyond = tile_beyond

    def decode(self, latents: Floats) -> Floats:
        """float32 [C, h, w] -> [3, H, W], about [-1, 1]. Raises as `Engine` says."""
        unscaled = (latents / self._scaling + self._shift)[None]
        image: Floats = self._run(self._engine.decode, unscaled, TILE // self._downscale, TILE)[0]
        return image

    def encode(self, image: Floats) -> tuple[Floats, Floats]:
        """float32 [3, H, W] in [-1, 1] -> latents' mean and standard deviation, [C, h, w]. Raises as `Engine` says."""

        def moments(tile: Floats) -> Floats:
            return np.concatenate(self._engine.encode_image(tile), axis=1)

        mean, std = np.split(self._run(moments, image[None], TILE, TILE // self._downscale)[0], 2)
        return (mean - self._shift) * self._scaling, std * self._scaling

    def _run(self, call: Callable[[Floats], Floats], whole: Floats, tile: int, tile_out: int) -> Floats:
        side = TILE * max(whole.shape[2:]) // tile
        if not self._tile_beyond or side <= self._tile_beyond:
            try:
                return call(whole)
            except MemoryError:
                if side <= TILE:
                    raise
                self._tile_beyond = side - 1  # nor would it fit the next time
        return in_tiles(call, whole, tile, tile_out)
