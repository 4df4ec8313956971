"""PSNR: how near two arrays are, in dB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_IDENTICAL = 200.0  # dB; what is written where there is no difference at all


def psnr(wanted: NDArray[Any], actual: NDArray[Any], peak: float) -> float:
    """Peak signal-to-noise ratio in dB, rounded to 0.1; not above 200, and 0 where anything is not finite."""
    error = float(np.mean((wanted.astype(np.float64) - actual.astype(np.float64)) ** 2))
    if not np.isfinite(error):
        return 0.0
    return _IDENTICAL if error == 0 else round(min(_IDENTICAL, 10 * np.log10(peak**2 / error)), 1)
