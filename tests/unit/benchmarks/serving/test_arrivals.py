"""Poisson arrivals, and the rows made of answers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.serving.arrivals import OURS, rows, rows_over_http
from benchmarks.serving.poisson import MIX, Answered, by_chance, p95


def test_arrivals_come_at_the_rate_asked_for_and_are_drawn_once() -> None:
    drawn = by_chance(3000, rate=5.0, seed=1)
    assert drawn[-1].at == pytest.approx(600, rel=0.1)
    assert [drawn[index].at for index in range(3000)] == sorted(each.at for each in drawn)
    assert {steps: round(np.mean([each.steps == steps for each in drawn]), 1) for steps in MIX} == dict.fromkeys(
        MIX, 0.3
    )
    assert [(each.at, each.steps) for each in by_chance(3000, rate=5.0, seed=1)] == [(e.at, e.steps) for e in drawn]


def test_each_goal_is_against_the_better_of_the_others() -> None:
    def answers(seconds: float) -> list[list[Answered]]:
        return [[Answered(steps, seconds * steps) for steps in MIX * 20]]

    answered = {OURS: answers(0.1), "one": answers(0.3), "other": answers(0.4)}
    rates = {OURS: [5.0], "one": [4.0], "other": [5.1]}
    metrics = {row.metric: row for row in rows(answered, rates, short=0.5)}
    assert metrics["mean latency, by step / one"].measured == pytest.approx(1 / 3, abs=0.001)
    assert metrics["p95 latency, by step / one"].met is True
    assert metrics["p95 of 4-step requests / 5 steps of the full batch"].measured == pytest.approx(0.8)
    assert metrics["throughput at saturation, by step / other"].measured == pytest.approx(5.0 / 5.1, abs=0.001)
    assert metrics["throughput at saturation, by step / other"].met is True
    assert p95(answered[OURS][0]) == pytest.approx(5.0)


def test_over_http_the_first_is_ours() -> None:
    answered = {"ours": [[Answered(4, 1.0)], [Answered(4, 3.0)]], "theirs": [[Answered(4, 4.0)], [Answered(4, 5.0)]]}
    metrics = rows_over_http(answered, {"ours": [9.0, 9.0], "theirs": [3.0, 2.0]})
    assert [(row.metric, row.measured, row.met) for row in metrics] == [
        ("mean latency over HTTP, ours / theirs", 0.425, True),
        ("p95 latency over HTTP, ours / theirs", 0.425, True),
        ("throughput at saturation over HTTP, ours / theirs", 3.75, True),
    ]
