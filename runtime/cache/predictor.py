"""Guesses whether a look-up can succeed, so that hopeless ones are not made."""

from __future__ import annotations

import numpy as np

from runtime.arrays import Floats

_PLANES = 6
_LEAST = 32  # look-ups in a region before it is judged
_HOPELESS = 0.02
_STILL_TRIED = 8  # one in so many, so that a region can become hopeful again
_MEMORY = 256  # look-ups after which counts are halved


class MatchPredictor:
    """Counts hits by region of the index, cut by random planes; deterministic for a given sequence of look-ups."""

    def __init__(self, dimensions: int) -> None:
        planes = np.random.Generator(np.random.Philox(0)).standard_normal((dimensions, _PLANES))
        self._planes = planes.astype(np.float32)
        self._weights = 2 ** np.arange(_PLANES)
        self._tried: dict[int, int] = {}
        self._hits: dict[int, int] = {}
        self._skipped: dict[int, int] = {}

    def hopeful(self, point: Floats) -> bool:
        region = self._region(point)
        tried = self._tried.get(region, 0)
        if tried < _LEAST or self._hits.get(region, 0) > _HOPELESS * tried:
            return True
        self._skipped[region] = self._skipped.get(region, 0) + 1
        return self._skipped[region] % _STILL_TRIED == 0

    def observe(self, point: Floats, *, hit: bool) -> None:
        region = self._region(point)
        self._tried[region] = self._tried.get(region, 0) + 1
        self._hits[region] = self._hits.get(region, 0) + hit
        if self._tried[region] >= _MEMORY:
            self._tried[region] //= 2
            self._hits[region] //= 2

    def _region(self, point: Floats) -> int:
        return int(((point @ self._planes) > 0) @ self._weights)
