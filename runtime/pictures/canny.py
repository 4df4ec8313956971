"""Canny's edge detector in NumPy, pixel for pixel as OpenCV's.

J. Canny, "A Computational Approach to Edge Detection", PAMI 8 (1986). Why it is not OpenCV's own: 153 MB for one
function, in an environment of 416 MB (docs/decisions/023-one-fetcher-and-our-own-canny.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.arrays import Pixels

Ints = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

_TAN_22_5 = 13573  # in 1/2^15
_NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))  # with their opposites, all eight


def canny(image: npt.NDArray[np.uint8], low: float, high: float) -> npt.NDArray[np.uint8]:
    """uint8 [H, W] or [H, W, channels] -> uint8 [H, W], 255 on an edge and 0 elsewhere.

    As cv2.Canny(image, low, high): Sobel's 3x3 gradients, |dx| + |dy| as their magnitude, thresholds in these units. Of
    several channels each pixel's strongest counts: that is how ControlNets' edge maps are made, and grey has no edge
    between colours of one brightness.
    """
    low, high = sorted((np.floor(low), np.floor(high)))
    dx, dy = _gradients(image) if image.ndim == 2 else _strongest_gradients(image)
    magnitude = np.abs(dx) + np.abs(dy)
    ridge = (magnitude > low) & _is_local_maximum(dx, dy, magnitude)
    return _connected(ridge, ridge & (magnitude > high)).astype(np.uint8) * np.uint8(255)


def _strongest_gradients(image: Pixels) -> tuple[Ints, Ints]:
    gradients = np.stack([_gradients(image[..., channel]) for channel in range(image.shape[2])])
    strongest = np.abs(gradients).sum(axis=1).argmax(axis=0)[None, None]
    dx, dy = np.take_along_axis(gradients, strongest, axis=0)[0]
    return dx, dy


def _gradients(plane: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    padded = np.pad(plane.astype(np.int32), 1, mode="edge")
    across = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return across[:, 2:] - across[:, :-2], down[2:] - down[:-2]


def _is_local_maximum(dx: Ints, dy: Ints, magnitude: Ints) -> Flags:
    """Whether no neighbour along the gradient, in the nearest of four directions, is stronger."""
    around = np.pad(magnitude, 1)

    def neighbour(down: int, right: int) -> Ints:
        height, width = magnitude.shape
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = np.abs(dx).astype(np.int64), np.abs(dy).astype(np.int64) << 15
    flat = x * _TAN_22_5
    horizontal = y < flat
    vertical = y > flat + (x << 16)  # tan 67.5 = tan 22.5 + 2
    falling = (dx ^ dy) < 0
    # On a plateau of two pixels the first in reading order is the edge, except along diagonals: as OpenCV has it.
    along_row = (magnitude > neighbour(0, -1)) & (magnitude >= neighbour(0, 1))
    along_column = (magnitude > neighbour(-1, 0)) & (magnitude >= neighbour(1, 0))
    rising_diagonal = (magnitude > neighbour(-1, 1)) & (magnitude > neighbour(1, -1))
    falling_diagonal = (magnitude > neighbour(-1, -1)) & (magnitude > neighbour(1, 1))
    diagonal = np.where(falling, rising_diagonal, falling_diagonal)
    return np.where(horizontal, along_row, np.where(vertical, along_column, diagonal))


def _connected(ridge: Flags, strong: Flags) -> Flags:
    """Hysteresis: the ridge pixels that are linked to a strong one, each to each of its eight neighbours.

    Components by hooking and pointer jumping (Shiloach and Vishkin 1982): a few passes over arrays, however the edges
    wind, where a walk from pixel to pixel would be a loop in Python.
    """
    count = int(ridge.sum())
    number = np.full((ridge.shape[0] + 1, ridge.shape[1] + 2), -1, np.int64)  # a frame, so that no neighbour is outside
    number[:-1, 1:-1][ridge] = np.arange(count)
    height, width = ridge.shape
    here = number[:-1, 1:-1]
    links = []
    for down, right in _NEIGHBOURS:
        there = number[down : down + height, 1 + right : 1 + right + width]
        both = (here >= 0) & (there >= 0)
        links.append(np.stack([here[both], there[both]]))
    one, other = np.concatenate(links, axis=1)
    root = np.arange(count)
    while True:
        a, b = root[one], root[other]
        apart = a != b
        if not apart.any():
            break
        np.minimum.at(root, np.maximum(a[apart], b[apart]), np.minimum(a[apart], b[apart]))
        while (root != (above := root[root])).any():
            root = above
    kept = np.zeros(count, np.bool_)
    kept[root[number[:-1, 1:-1][strong]]] = True
    edges = np.zeros_like(ridge)
    edges[ridge] = kept[root]
    return edges
