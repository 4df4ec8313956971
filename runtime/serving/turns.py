"""Whose step is next where several bundles share one device: each gets an equal share of its time, as measured.

Start-time fair queueing (Goyal et al. 1996): a bundle's account grows by the seconds its steps took, and the one with
the least has the next turn. A bundle with steps of 10 ms takes ten while one with steps of 100 ms takes one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial


class FairShares:
    """Policy only: accounts of seconds by name, of those who have work. Ties go to who has had it longer."""

    def __init__(self) -> None:
        self._accounts: dict[str, float] = {}
        self._clock = 0.0  # the account of whoever was served last: where someone without work begins again

    def wake(self, name: str) -> None:
        """It has work. Who had none saves nothing up for it, and owes nothing."""
        if name not in self._accounts:
            self._accounts[name] = max(self._clock, min(self._accounts.values(), default=0.0))

    def rest(self, name: str) -> None:
        """It has no work."""
        self._accounts.pop(name, None)

    def charge(self, name: str, seconds: float) -> None:
        """Its turn took so long."""
        self._clock = self._accounts[name]
        self._accounts[name] += seconds

    @property
    def next(self) -> str | None:
        """Whose turn it is; None where nobody has work."""
        return min(self._accounts, key=lambda name: self._accounts[name], default=None)


@dataclass(frozen=True)
class Seat:
    """One loop's place at the device: `turn()` is to be held around the engine's work of one step boundary, and blocks
    until it is this loop's turn; `rest()` says that there is nothing to do for now, so that nobody waits for this loop.
    """

    turn: Callable[[], AbstractContextManager[None]]
    rest: Callable[[], None]


ALONE = Seat(nullcontext, lambda: None)


class Turns:
    """The device of several loops, each on a thread of its own; one at a time has its turn.

    A loop that has had its turn and has more work is waited for if the next one is its own too: it comes back within
    the time of a step boundary.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shares = FairShares()
        self._changed = threading.Condition()
        self._taken = False

    def seat(self, name: str) -> Seat:
        return Seat(partial(self.turn, name), partial(self.rest, name))

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        with self._changed:
            self._shares.wake(name)
            self._changed.wait_for(lambda: not self._taken and self._shares.next == name)
            self._taken = True
        started = self._clock()
        try:
            yield
        finally:
            with self._changed:
                self._shares.charge(name, self._clock() - started)
                self._taken = False
                self._changed.notify_all()

    def rest(self, name: str) -> None:
        with self._changed:
            self._shares.rest(name)
            self._changed.notify_all()
