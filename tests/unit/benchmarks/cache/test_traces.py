"""Traces and what is made of them: the same every time, each of its kind, and honest about how images come to be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.cache.picture import Point, at_quality, draw
from benchmarks.cache.quality import _waves, compared
from benchmarks.cache.replay import CacheOutcome, saved
from benchmarks.cache.traces import TRACES, trace
from crayon.judge.judge import Marks
from crayon.scenes.grammar import is_visible


@pytest.mark.parametrize("kind", TRACES)
def test_a_trace_is_the_same_every_time_and_each_request_has_its_seed(kind: str) -> None:
    requests = trace(kind, 400)
    assert requests == trace(kind, 400)
    assert len({one.seed for one in requests}) == 400
    assert all(is_visible(one.scene) for one in requests)


def test_few_prompts_are_most_of_a_zipf_trace_and_none_is_of_a_uniform_one() -> None:
    def top(kind: str) -> int:
        return sum(count for _, count in Counter(one.scene for one in trace(kind, 1000)).most_common(20))

    assert top("zipf") > 400
    assert top("uniform") < 100


def test_most_prompts_of_a_session_are_a_word_or_two_from_one_before() -> None:
    prompts = [set(one.prompt.split()) for one in trace("sessions", 500)]
    near = [
        min(len(words ^ before) for before in prompts[max(0, n - 100) : n]) <= 6
        for n, words in enumerate(prompts[1:], 1)
    ]
    assert sum(near) > 0.75 * len(near)


def test_requests_are_drawn_after_those_that_they_began_from() -> None:
    outcomes = [CacheOutcome(), CacheOutcome(5, 0, 25), CacheOutcome(5, 1, 25), CacheOutcome(), CacheOutcome(9, 2, 25)]
    waves = list(_waves([4, 3], outcomes))
    assert waves == [[0, 3], [1], [2], [4]]
    assert saved(outcomes) == pytest.approx(19 / 5 / 25)


def test_images_are_compared_in_pairs() -> None:
    right, wrong = Marks(True, True, True, True, True), Marks(True, False, True, True, True)
    quality = compared([right, wrong, right, right], [right, right, right, wrong])
    assert (quality.cached["all"], quality.uncached["all"], quality.ratio) == (0.75, 0.75, 1.0)
    assert quality.margin == pytest.approx(1.96 * (0.5**0.5 / 0.75) / 2)


def test_curves_are_drawn_and_compared_at_the_quality_asked_for(tmp_path: Path) -> None:
    curve = [Point(0.1, 1.0), Point(0.3, 0.992, 0.004), Point(0.4, 0.892, 0.01)]
    draw({"nirvana": curve[2:], "darkroom": curve}, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > picture.height > 300
    assert at_quality(curve) == pytest.approx(0.302)
    assert at_quality(curve[2:]) == pytest.approx(0.4 * 0.01 / 0.108)
    assert at_quality(curve[:2]) == 0.3
