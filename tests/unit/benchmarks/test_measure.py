"""A figure is held against its goal as it was measured, not as it is printed."""

from __future__ import annotations

import pytest

from benchmarks.measure import judged


@pytest.mark.parametrize(
    ("measured", "goals", "judgement"),
    [
        (0.99951, {"at_least": 1.0}, (1.0, ">= 1", False)),
        (1.0, {"at_least": 1.0}, (1.0, ">= 1", True)),
        (0.20049, {"at_most": 0.2}, (0.2, "<= 0.2", False)),
        (0.2, {"at_most": 0.2}, (0.2, "<= 0.2", True)),
        (0.12345, {}, (0.123, None, None)),
    ],
)
def test_judged_before_it_is_rounded(
    measured: float, goals: dict[str, float], judgement: tuple[float, str | None, bool | None]
) -> None:
    row = judged("cpu", "make bench PART=cpu", "a step", measured, **goals)
    assert (row.measured, row.goal, row.met) == judgement
    assert (row.part, row.metric, row.unit, row.command) == ("cpu", "a step", "x", "make bench PART=cpu")
