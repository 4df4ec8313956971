"""Which entry leaves when there is no room."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Eviction(Protocol):
    """Keeps an order of entries; deterministic: ties go to the oldest."""

    def added(self, entry: str, step: int, nbytes: int) -> None:
        """`step` is the step it allows to enter at, as far as is known."""

    def hit(self, entry: str, saved: int) -> None:
        """It saved so many steps."""

    def removed(self, entry: str) -> None: ...

    def victim(self) -> str:
        """The entry to go first. Raises LookupError where there is none."""


@dataclass
class Account:
    """What is known of an entry."""

    step: int
    nbytes: int
    order: int
    used: int
    hits: int = 0
    saved: int = 0
    inherited: float = 0.0


Score = Callable[[Account], float]


class Scored:
    """The lowest score goes first. A heap whose outdated items are skipped: each event costs a logarithm.

    With `ageing`, an entry's score begins at that of the last victim, so that what was useful once and never again is
    in the end outlived by what is new (greedy-dual).
    """

    def __init__(self, score: Score, *, ageing: bool = False) -> None:
        self._score = score
        self._ageing = ageing
        self._accounts: dict[str, Account] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._clock = itertools.count()
        self._floor = 0.0

    def added(self, entry: str, step: int, nbytes: int) -> None:
        now = next(self._clock)
        self._accounts[entry] = Account(step, nbytes, now, now, inherited=self._floor)
        self._push(entry)

    def hit(self, entry: str, saved: int) -> None:
        account = self._accounts.get(entry)
        if account is not None:
            account.hits += 1
            account.saved += saved
            account.used = next(self._clock)
            account.inherited = self._floor
            self._push(entry)

    def removed(self, entry: str) -> None:
        self._accounts.pop(entry, None)

    def victim(self) -> str:
        while self._heap:
            score, order, entry = self._heap[0]
            account = self._accounts.get(entry)
            if account is not None and (score, order) == self._rank(account):
                if self._ageing:
                    self._floor = score
                return entry
            heapq.heappop(self._heap)
        raise LookupError

    def _rank(self, account: Account) -> tuple[float, int]:
        return self._score(account) + (account.inherited if self._ageing else 0.0), account.order

    def _push(self, entry: str) -> None:
        heapq.heappush(self._heap, (*self._rank(self._accounts[entry]), entry))


def saved_work() -> Scored:
    """The entry that saved the least work for its bytes goes first, and grows old."""
    return Scored(_saved_per_byte, ageing=True)


def _saved_per_byte(account: Account) -> float:
    # A new entry is given the benefit of the doubt: as if it had been hit once at half of what it allows.
    return (account.saved + account.step / 2) / account.nbytes
