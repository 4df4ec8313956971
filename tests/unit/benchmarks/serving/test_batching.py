"""Servers that take turns, each in a time of its own."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.serving.batching import TurnClock, answers
from benchmarks.serving.poisson import Answered, Arrival, all_at_once


def test_idle_time_is_passed_over_and_never_taken_back() -> None:
    clock = TurnClock()
    with clock.running():
        clock.skip_to(1000.0)
        now = clock()
        assert now >= 1000.0
        clock.skip_to(5.0)
        assert clock() >= now


def test_time_stands_still_while_another_has_its_turn() -> None:
    clock = TurnClock()
    with clock.running():
        pass
    before = clock()
    assert clock() == before


class Steady:
    """Answers an arrival a turn, in so many seconds; `turns` is everyone's."""

    def __init__(self, name: str, seconds: float, turns: list[str], arrivals: Sequence[Arrival]) -> None:
        self.clock, self.answered = TurnClock(), list[Answered]()
        self._name, self._seconds, self._turns, self._arrivals = name, seconds, turns, list(arrivals)

    def turn(self) -> None:
        self._turns.append(self._name)
        self.clock.skip_to(self.clock() + self._seconds)
        arrival = self._arrivals[len(self.answered)]
        self.answered.append(Answered(arrival.steps, self.clock() - arrival.at))


def test_whose_time_is_earliest_has_the_next_turn() -> None:
    turns: list[str] = []
    answered = answers(
        {
            "fast": lambda arrivals: Steady("fast", 100.0, turns, arrivals),
            "slow": lambda arrivals: Steady("slow", 250.0, turns, arrivals),
        },
        all_at_once(4, seed=0),
        "",
    )
    assert turns == ["fast", "slow", "fast", "fast", "slow", "fast", "slow", "slow"]
    assert {name: round(each[-1].seconds) for name, each in answered.items()} == {"fast": 400, "slow": 1000}
    assert [one.steps for one in answered["fast"]] == [arrival.steps for arrival in all_at_once(4, seed=0)]
