"""The size that a model can make nearest to the one that is asked for."""

from __future__ import annotations

import itertools
import math

from darkroom.bundles.manifest import Limits


def nearest(width: int, height: int, limits: Limits, native: int) -> tuple[int, int]:
    """Pixels within the model's limits: first of the most like aspect, then of the most like size.

    What is larger than the model can make is made with as many pixels as it was trained on (`native`) and not with the
    most that it can: there, such models draw what they are asked for twice.
    """
    scale = 1.0
    if max(width, height) > limits.max_size or width * height > limits.max_pixels:
        scale = min(limits.max_size / max(width, height), math.sqrt(native / (width * height)))
    scale = max(scale, limits.min_size / min(width, height))

    def steps(side: float, other: float) -> set[int]:
        """The steps around one side; `other` may have had to become longer, so that this one must become shorter."""
        most = min(limits.max_size, limits.max_pixels / max(limits.min_size, other - limits.multiple_of))
        below = math.floor(min(side, most) / limits.multiple_of) * limits.multiple_of
        return {max(limits.min_size, min(limits.max_size, step)) for step in (below, below + limits.multiple_of)}

    def unlike(made: tuple[int, int]) -> tuple[float, float, tuple[int, int]]:
        aspect = math.log(made[0] / made[1]) - math.log(width / height)
        return round(abs(aspect), 9), abs(math.log(made[0] * made[1] / (width * height * scale**2))), made

    sizes = itertools.product(steps(width * scale, height * scale), steps(height * scale, width * scale))
    return min((size for size in sizes if size[0] * size[1] <= limits.max_pixels), key=unlike)
