"""Weights: when float16 holds every one of them exactly, the file need not be twice as large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def lossless_half(values: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """`values` as float16 where not one of them changes (weights of an fp16 checkpoint), else None."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None
