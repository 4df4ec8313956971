"""What the cache's calibration concludes from trials, and what it tries."""

from __future__ import annotations

import numpy as np
import pytest

from model_build import BuildRefused
from model_build.cache.criterion import LEAST_PROMPTS, Moved, criterion_named
from model_build.cache.trials import DEPTHS, Effort, Trials, draws, fit, measured

LINES = [f"a {colour} {thing} number {number}" for number in range(8) for colour in "rgby" for thing in ("cat", "dog")]


def trials(slope: float, intercepts: list[float], count: int = 20_000) -> Trials:
    """Drawn from a known law."""
    random = np.random.Generator(np.random.Philox(0))
    level = random.integers(0, len(intercepts), count)
    distance = random.uniform(0.1, 10, count).astype(np.float32)
    rate = 1 / (1 + np.exp(-(np.array(intercepts)[level] + slope * np.log(distance))))
    return Trials(level, distance, random.random(count) < rate, distance)


def test_the_fit_finds_the_law_that_trials_were_drawn_from() -> None:
    slope, intercepts = fit(trials(1.5, [-5.0, -3.0, -1.0]), np.array([0.0, 1.0, 2.0], np.float32), random_distance=10)
    assert slope == pytest.approx(1.5, abs=0.1)
    assert intercepts == pytest.approx([-5.0, -3.0, -1.0], abs=0.25)


def test_no_failure_seen_is_not_taken_for_none_to_come() -> None:
    few, many = (Trials(np.zeros(n, int), np.ones(n, np.float32), np.zeros(n, bool), np.ones(n)) for n in (10, 1000))
    rates = [1 / (1 + np.exp(-fit(found, np.zeros(1, np.float32), 1.0)[1][0])) for found in (few, many)]
    assert 0.01 < rates[0] < 0.2
    assert 0 < rates[1] < 0.002


def test_a_level_without_failures_is_judged_by_those_below_it() -> None:
    level = np.repeat([0, 1, 2], 100)
    wrong = (level == 2) & (np.arange(300) % 10 == 0)
    found = Trials(level, np.ones(300, np.float32), wrong, np.ones(300, np.float32))
    _, intercepts = fit(found, np.array([0.0, 0.1, 1.0], np.float32), 1.0)
    rates = 1 / (1 + np.exp(-intercepts))
    assert 0 < rates[0] < rates[1] < rates[2] == pytest.approx(0.1, abs=0.02)


def test_every_image_of_the_table_is_counted_once_a_level() -> None:
    found = trials(1.0, [-3.0, -2.0], 400)
    rows = measured(found, [5, 10], 20)
    assert {row["share_skipped"] for row in rows} == {0.25, 0.5}
    assert sum(row["images"] for row in rows) >= 400  # a distance on an edge is in both quarters


def test_progress_counts_what_is_drawn() -> None:
    assert draws(Effort(pairs=10), 10) == 2 * 10 + 10 * 3
    assert len(DEPTHS) == 10


def test_pairs_go_from_the_same_prompt_to_another_altogether() -> None:
    pairs = Moved(LINES).pairs(160, seed=1)
    shared = [
        len(set(pair.before.split()) & set(pair.prompt.split())) / len(set(pair.before.split())) for pair in pairs
    ]
    assert shared[0] == 1.0
    assert np.mean(shared[0::8]) == 1.0 > np.mean(shared[1::8]) > np.mean(shared[6::8])
    assert Moved(LINES).pairs(160, seed=1) == pairs
    assert len(set(Moved(LINES).prompts(100, seed=0))) > 50


def test_an_image_that_moved_further_than_another_seed_would_is_wrong() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    wrong = Moved(LINES).wrong(["a", "b"], images, np.array([1.0, 3.0], np.float32), ordinary=2.0)
    assert wrong.tolist() == [False, True]


@pytest.mark.parametrize("lines", [LINES[: LEAST_PROMPTS - 1], []])
def test_too_few_prompts_are_refused(lines: list[str]) -> None:
    with pytest.raises(BuildRefused, match=f"at least {LEAST_PROMPTS} different prompts"):
        criterion_named("moved", lines)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("judge", "use moved, or module:attribute"),
        (":Judged", "use moved, or module:attribute"),
        ("json:", "use moved, or module:attribute"),
        ("no_module_of_this_name:Judged", "cannot be imported: No module named"),
        (".here:Judged", "cannot be imported"),
        ("json:no_attribute", "cannot be imported: module 'json' has no attribute"),
        ("json:JSONDecoder", "json:JSONDecoder makes no criterion"),
        ("json:__name__", "json:__name__ makes no criterion"),
    ],
)
def test_a_criterion_that_cannot_be_had_is_refused(name: str, why: str) -> None:
    with pytest.raises(BuildRefused, match=why):
        criterion_named(name, LINES)


def test_a_criterion_of_ones_own() -> None:
    assert isinstance(criterion_named(f"{__name__}:own", []), Moved)


def own() -> Moved:
    return Moved(LINES)
