"""Which rows run next: policy only, no arrays.

Shortest remaining work first, so that a request's wait follows its size and not its arrival; an ageing bound, so that
a stream of short requests starves nobody. Trajectories are cheap to set aside (their state is their latents), so every
accepted request competes at every step: admission, preemption and resumption are one decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

from runtime.denoising.row_cap import RowCap


class Candidate(Protocol):
    """What the policy sees of an unfinished trajectory."""

    @property
    def request(self) -> int:
        """Arrival number of its request; images of one request share it."""

    @property
    def index(self) -> int:
        """Which image of its request."""

    @property
    def rows(self) -> int:
        """UNet rows it takes in one step: 2 when guided, else 1."""

    @property
    def size(self) -> tuple[int, int]:
        """Latent height and width; only rows of equal size can share a call."""

    @property
    def steps_left(self) -> int:
        """At least 1."""

    @property
    def last_turn(self) -> int:
        """The turn it last ran in, or in which it arrived."""


C = TypeVar("C", bound=Candidate)


class Batcher:
    """Chooses the rows of each step.

    Guarantee: with at most `n` candidates present, one is passed over for at most `ageing_steps + n` turns in a row.
    From `ageing_steps` turns on it is ordered by its last turn before all that are younger, each turn serves the head
    of that order, and who is served goes to its end.
    """

    def __init__(self, max_rows: int, ageing_steps: int, *, strict: bool = False, learns: bool = False) -> None:
        """With `learns` each size has a row cap, which follows from what `timed` is told; else it is `max_rows`."""
        self._max_rows = max_rows
        self._ageing_steps = ageing_steps
        self._strict = strict
        self._fitting: dict[tuple[int, int], int] = {}
        self._learns = learns
        self._caps: defaultdict[tuple[int, int], RowCap] = defaultdict(lambda: RowCap(max_rows))

    def pick(self, candidates: Sequence[C], turn: int) -> list[C]:
        """The trajectories that step together in turn number `turn`, most urgent first; empty only without candidates.

        They share one size and never exceed the row cap, save that a single trajectory always runs.
        """
        work: dict[int, int] = defaultdict(int)
        for candidate in candidates:
            work[candidate.request] += _work(candidate)

        def urgency(candidate: C) -> tuple[int, int, int, int]:
            if turn - candidate.last_turn > self._ageing_steps:
                return 0, candidate.last_turn, candidate.request, candidate.index
            return 1, work[candidate.request], candidate.request, candidate.index

        batch: list[C] = []
        rows = 0
        for candidate in sorted(candidates, key=urgency):
            if not batch:
                batch, rows = [candidate], candidate.rows
                if self._strict:
                    break
            elif candidate.size == batch[0].size and rows + candidate.rows <= self.row_cap(candidate.size):
                batch.append(candidate)
                rows += candidate.rows
        return batch

    def row_cap(self, size: tuple[int, int]) -> int:
        """Most rows of this size in the next call."""
        fitting = self._fitting.get(size, self._max_rows)
        return min(fitting, self._caps[size].cap) if self._learns else fitting

    def timed(self, size: tuple[int, int], rows: int, seconds: float) -> bool:
        """A call of so many rows of this size took so long; whether that settles their row cap."""
        return self._learns and self._caps[size].record(rows, seconds)

    def too_many(self, size: tuple[int, int], rows: int) -> None:
        """Memory ran out with so many rows of this size: take half as many from now on, but never below one image."""
        self._fitting[size] = max(2, min(self.row_cap(size), rows // 2))


def _work(candidate: Candidate) -> int:
    height, width = candidate.size
    return candidate.rows * candidate.steps_left * height * width
