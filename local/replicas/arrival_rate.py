"""What callers bring about: how many jobs arrive, and how long they take to their end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from darkroom.scaling.policy import Metric

WITHIN = 60.0  # seconds that rates and latencies are taken over, as the simulation of `plan` has it


class ArrivalRate:
    """Lives on one event loop; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._arrived: deque[float] = deque()
        self._answered: deque[tuple[float, float]] = deque()
        self.last_work = -math.inf  # when a job last arrived or ended

    def arrived(self) -> None:
        self.last_work = self._clock()
        self._arrived.append(self.last_work)

    def answered(self, seconds: float) -> None:
        """A job ended so many seconds after it was accepted."""
        self.last_work = self._clock()
        self._answered.append((self.last_work, seconds))

    def requests_per_second(self) -> float:
        oldest = self._clock() - WITHIN
        while self._arrived and self._arrived[0] < oldest:
            self._arrived.popleft()
        return len(self._arrived) / WITHIN

    def latency(self, metric: Metric) -> float | None:
        """The metric's statistic of the latencies, in seconds; None where nothing ended."""
        oldest = self._clock() - WITHIN
        while self._answered and self._answered[0][0] < oldest:
            self._answered.popleft()
        values = sorted(seconds for _, seconds in self._answered)
        if not values:
            return None
        if metric.statistic == "average":
            return sum(values) / len(values)
        share = 1.0 if metric.statistic == "maximum" else int(metric.statistic[1:]) / 100
        return values[max(math.ceil(share * len(values)), 1) - 1]
