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
        self._arrived: deque[tuple[float, float]] = deque()  # when, and the seconds it took
        self._answered: deque[tuple[float, float]] = deque()
        self.last_work = -math.inf  # when a job last arrived or ended

    def arrived(self) -> None:
        self._note(self._arrived, 0.0)

    def answered(self, seconds: float) -> None:
        """A job ended so many seconds after it was accepted."""
        self._note(self._answered, seconds)

    def requests_per_second(self) -> float:
        return len(self._recent(self._arrived)) / WITHIN

    def latency(self, metric: Metric) -> float | None:
        """The metric's statistic of the latencies, in seconds; None where nothing ended."""
        return metric.of(seconds for _, seconds in self._recent(self._answered))

    def _note(self, events: deque[tuple[float, float]], seconds: float) -> None:
        self.last_work = self._clock()
        self._recent(events).append((self.last_work, seconds))  # old ones go also where nobody ever asks

    def _recent(self, events: deque[tuple[float, float]]) -> deque[tuple[float, float]]:
        oldest = self._clock() - WITHIN
        while events and events[0][0] < oldest:
            events.popleft()
        return events
