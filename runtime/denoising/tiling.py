"""Tiling: an image too large to go through the autoencoder at once does so in overlapping tiles, blended linearly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from runtime.arrays import Floats

_OVERLAP = 0.25  # of a tile, with the one before it


def in_tiles(call: Callable[[Floats], Floats], whole: Floats, tile: int, tile_out: int) -> Floats:
    """What `call` makes of float32 [1, c, h, w], tile by tile: of a side of `tile` it makes one of `tile_out`.

    As diffusers' AutoencoderKL.tiled_decode does it, but for tiles that would lie wholly inside the one before.
    """
    height, width = whole.shape[2:]
    stride, blended = int(tile * (1 - _OVERLAP)), int(tile_out * _OVERLAP)
    above: list[Floats] = []
    strips = []
    for top in _starts(height, tile, stride):
        row: list[Floats] = []
        for left in _starts(width, tile, stride):
            output = call(np.ascontiguousarray(whole[:, :, top : top + tile, left : left + tile]))
            if above:
                _blend(above[len(row)], output, blended, axis=2)
            if row:
                _blend(row[-1], output, blended, axis=3)
            row.append(output)
        strips.append(_joined(row, tile_out - blended, axis=3))
        above = row
    return _joined(strips, tile_out - blended, axis=2)


def _starts(size: int, tile: int, stride: int) -> range:
    return range(0, max(1, size - (tile - stride)), stride)


def _blend(before: Floats, after: Floats, extent: int, axis: int) -> None:
    """Let `after` begin as `before` ends, and fade in; in place."""
    ramp = np.arange(extent, dtype=np.float32) / np.float32(extent)
    end, start = np.moveaxis(before, axis, -1)[..., -extent:], np.moveaxis(after, axis, -1)[..., :extent]
    start[...] = end * (1 - ramp) + start * ramp


def _joined(parts: list[Floats], kept: int, axis: int) -> Floats:
    """The parts in a row: of each but the last what the next one does not begin with."""
    return np.concatenate([*(np.split(part, [kept], axis)[0] for part in parts[:-1]), parts[-1]], axis)
