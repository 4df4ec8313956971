"""Finds the background and the objects of a picture by their pixels, for the judge."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crayon.scenes.drawing import BACKGROUND_RGB
from crayon.scenes.grammar import Background

CROP_SIDE = 32
_BORDER = 3
# Summed over the three channels, of 255 each.
_FOREGROUND_DIFFERENCE = 42
# In pixels of a 128-pixel picture: stars of the night are smaller, objects larger.
_SMALLEST_OBJECT = 80
# Parts closer than this belong together (a boat's hull and its sail); the objects of a pair stand further apart.
_LARGEST_GAP = 5
_BACKGROUNDS = list(Background)
_BACKGROUND_PALETTE = np.array([BACKGROUND_RGB[kind] for kind in _BACKGROUNDS], np.float32)


@dataclass(frozen=True)
class Blob:
    """A connected region: its mask, bool (height, width), and its box, the far edges excluded."""

    mask: NDArray[np.bool_]
    left: int
    top: int
    right: int
    bottom: int

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box as fractions (x, y) of the picture's sides."""
        height, width = self.mask.shape
        return (self.left + self.right) / 2 / width, (self.top + self.bottom) / 2 / height

    @property
    def extent(self) -> float:
        """The longer side of the box as a fraction of the picture's."""
        longer: float = max(self.right - self.left, self.bottom - self.top) / self.mask.shape[0]
        return longer


def backdrop_colour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The median colour (3,) of the border of a uint8 picture (height, width, 3)."""
    b = _BORDER
    sides = (image[:b], image[-b:], image[:, :b], image[:, -b:])
    border = np.concatenate([side.reshape(-1, 3) for side in sides])
    median: NDArray[np.float32] = np.median(border, axis=0).astype(np.float32)
    return median


def nearest_background(colour: NDArray[np.float32]) -> Background:
    """The background whose colour is nearest to `colour` (3,)."""
    return _BACKGROUNDS[int(np.abs(_BACKGROUND_PALETTE - colour).sum(1).argmin())]


def find_blobs(image: NDArray[np.uint8], backdrop: NDArray[np.float32]) -> list[Blob]:
    """The objects of a uint8 picture (128, 128, 3), largest first."""
    different = np.abs(image.astype(np.float32) - backdrop).sum(-1) > _FOREGROUND_DIFFERENCE
    count, labels = cv2.connectedComponents(different.astype(np.uint8), connectivity=8)
    regions = [labels == label for label in range(1, count)]
    parts = [mask for mask in regions if mask.sum() >= _SMALLEST_OBJECT // 4]
    blobs = [blob for blob in _joined([_blob(part) for part in parts]) if blob.mask.sum() >= _SMALLEST_OBJECT]
    split = [piece for blob in blobs for piece in _split_at_waist(blob)]
    return sorted(split, key=lambda blob: -int(blob.mask.sum()))


def _blob(mask: NDArray[np.bool_]) -> Blob:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Blob(mask, int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _gap(first: Blob, second: Blob) -> int:
    across = max(first.left, second.left) - min(first.right, second.right)
    down = max(first.top, second.top) - min(first.bottom, second.bottom)
    return max(across, down, 0)


def _joined(blobs: list[Blob]) -> list[Blob]:
    # Night's stars do not join what they lie between: only parts of some size do.
    large = [blob for blob in blobs if blob.mask.sum() >= _SMALLEST_OBJECT // 2]
    for i, first in enumerate(large):
        for second in large[i + 1 :]:
            if _gap(first, second) <= _LARGEST_GAP:
                rest = [blob for blob in large if blob is not first and blob is not second]
                return _joined([*rest, _blob(first.mask | second.mask)])
    return large


def _split_at_waist(blob: Blob) -> list[Blob]:
    """Two blobs if this one is long and has a narrow place near the middle: objects that touch."""
    width, height = blob.right - blob.left, blob.bottom - blob.top
    if max(width, height) < 1.6 * min(width, height):
        return [blob]
    profile = blob.mask.sum(0 if width > height else 1)
    start = blob.left if width > height else blob.top
    length = max(width, height)
    middle = slice(start + int(0.35 * length), start + int(0.65 * length))
    waist = middle.start + int(profile[middle].argmin())
    if profile[waist] > 0.25 * profile.max():
        return [blob]
    first, second = blob.mask.copy(), blob.mask.copy()
    if width > height:
        first[:, waist:] = False
        second[:, :waist] = False
    else:
        first[waist:] = False
        second[:waist] = False
    return [_blob(first), _blob(second)]


def crop(image: NDArray[np.uint8], blob: Blob, others: list[Blob], backdrop: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The object alone, filling a uint8 (32, 32, 3) square; other objects are painted over."""
    painted = image.copy()
    for other in others:
        if other is not blob:
            painted[other.mask] = backdrop.astype(np.uint8)
    side = max(blob.right - blob.left, blob.bottom - blob.top) * 1.12
    x, y = (blob.left + blob.right) / 2, (blob.top + blob.bottom) / 2
    margin = int(side) + 1
    framed = np.empty((image.shape[0] + 2 * margin, image.shape[1] + 2 * margin, 3), np.uint8)
    framed[:] = backdrop.astype(np.uint8)
    framed[margin:-margin, margin:-margin] = painted
    box = (x - side / 2 + margin, y - side / 2 + margin, x + side / 2 + margin, y + side / 2 + margin)
    taken = Image.fromarray(framed).resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(taken)
