"""The row cap: how many rows a UNet call should have, learned from the calls that serve."""

from __future__ import annotations

from collections import deque

from darkroom.bundles.row_costs import GUIDED, row_cap

_TIMES = 5  # the least of so many calls counts: a first one may compile, and a machine has other work
_HOLDS = 1000  # calls; then all is learned anew, since what else a machine does changes


class RowCap:
    """The row cap of one image size. It begins with the rows of one guided image.

    Two caps are compared: so many rows, and twice as many. Calls of each are timed in turn, so that both meet the same
    machine. If a row costs less in the larger call, the larger cap is compared with its double next; else the smaller
    one holds for a while. No call is made only to be timed: while too few requests wait to fill a larger call, the
    comparison stays open and the cap is the larger one.
    """

    _few: int
    _many: int
    _seconds: dict[int, deque[float]]  # a row

    def __init__(self, most: int) -> None:
        """The cap never exceeds `most`, at least 2."""
        self._most = most
        self._held = 0
        self._compare(GUIDED)

    @property
    def cap(self) -> int:
        """Most rows of the next call."""
        if self._held or len(self._seconds[self._few]) <= len(self._seconds[self._many]):
            return self._few
        return self._many

    def record(self, rows: int, seconds: float) -> bool:
        """A call of so many rows took so long; whether that settles the cap, for a while."""
        if self._held:
            self._held -= 1
            if not self._held:
                self._compare(GUIDED)
            return False
        if rows in self._seconds:
            self._seconds[rows].append(seconds / rows)
        if any(len(times) < _TIMES for times in self._seconds.values()):
            return False
        cap = row_cap({count: min(times) for count, times in self._seconds.items()})
        if cap == self._many < self._most:
            self._compare(cap)
            return False
        self._few, self._held = cap, _HOLDS
        return True

    def _compare(self, few: int) -> None:
        """Begin to compare so many rows with twice as many, or with the most."""
        self._few, self._many = few, min(2 * few, self._most)
        self._seconds = {rows: deque(maxlen=_TIMES) for rows in (self._few, self._many)}
