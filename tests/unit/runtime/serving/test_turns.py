"""Shares of a device: the policy alone, then threads that take turns, under a clock that only their work moves."""

from __future__ import annotations

import threading
from collections import Counter

from runtime.serving.turns import FairShares, Turns

PATIENCE = 10


def served(shares: FairShares, steps: dict[str, float], turns: int) -> list[str]:
    """Whose turns they are while all have work and a step of each takes so long."""
    order = []
    for _ in range(turns):
        for name in steps:
            shares.wake(name)
        assert shares.next is not None
        order.append(shares.next)
        shares.charge(order[-1], steps[order[-1]])
    return order


def test_each_has_the_same_time_however_long_its_steps() -> None:
    steps = {"small": 0.01, "large": 0.1, "huge": 0.5}
    order = Counter(served(FairShares(), steps, 610))
    time = {name: order[name] * seconds for name, seconds in steps.items()}
    assert max(time.values()) - min(time.values()) <= 0.5, "no more than the longest step"


def test_nobody_waits_longer_than_a_step_of_each_other_and_the_time_its_own_last_one_took() -> None:
    order = served(FairShares(), {"small": 0.01, "large": 0.1}, 400)
    longest = max(len(run) for run in "".join("s" if name == "small" else "L" for name in order).split("L"))
    assert longest <= 11


def test_who_had_no_work_has_saved_nothing_up() -> None:
    shares = FairShares()
    served(shares, {"busy": 0.1, "idle": 0.1}, 2)
    shares.rest("idle")
    served(shares, {"busy": 0.1}, 100)
    assert Counter(served(shares, {"busy": 0.1, "idle": 0.1}, 20)) == {"busy": 10, "idle": 10}


def test_who_rests_and_comes_back_owes_nothing() -> None:
    shares = FairShares()
    served(shares, {"long": 5.0, "short": 0.1}, 2)
    for name in ("long", "short"):
        shares.rest(name)
    assert shares.next is None
    assert Counter(served(shares, {"long": 0.1, "short": 0.1}, 10)) == {"long": 5, "short": 5}


class Device:
    """Loops on threads of their own; only a step moves the clock, and never two at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.turns = Turns(lambda: self.now)
        self._busy = threading.Lock()

    def loop(self, name: str, seconds: float, steps: int) -> threading.Thread:
        def run() -> None:
            seat = self.turns.seat(name)
            for _ in range(steps):
                with seat.turn():
                    assert self._busy.acquire(blocking=False), "two at once"
                    self.order.append(name)
                    self.now += seconds
                    self._busy.release()
            seat.rest()

        return threading.Thread(target=run, name=name)

    def run(self, *loops: threading.Thread) -> None:
        """Start all while the device is taken, so that they begin together."""
        pause = threading.Event()
        with self.turns.turn("first"):
            for loop in loops:
                loop.start()
            while len(self.turns._shares._accounts) <= len(loops):
                pause.wait(0.001)
        self.turns.rest("first")
        for loop in loops:
            loop.join(PATIENCE)
            assert not loop.is_alive()


def test_loops_on_threads_share_time_and_who_is_done_holds_nobody_up() -> None:
    device = Device()
    device.run(device.loop("small", 0.01, 300), device.loop("large", 0.1, 10))
    both = device.order[: 1 + max(place for place, name in enumerate(device.order) if name == "large")]
    assert 90 <= Counter(both)["small"] <= 110, "while there were two"
    assert Counter(device.order) == {"small": 300, "large": 10}


def test_a_turn_that_fails_is_over() -> None:
    turns = Turns(lambda: 0.0)
    try:
        with turns.turn("one"):
            raise MemoryError
    except MemoryError:
        pass
    turns.rest("one")
    with turns.turn("two"):
        pass
