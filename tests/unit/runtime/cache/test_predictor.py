"""The match predictor gives up on regions without hits, and comes back to them."""

from __future__ import annotations

import numpy as np

from runtime.cache.predictor import MatchPredictor

HERE, THERE = np.ones(8, np.float32), -np.ones(8, np.float32)


def test_a_region_without_hits_becomes_hopeless_and_is_still_tried_now_and_then() -> None:
    predictor = MatchPredictor(8)
    for _ in range(40):
        predictor.observe(HERE, hit=False)
    tried = [predictor.hopeful(HERE) for _ in range(80)]
    assert sum(tried) == 10
    assert predictor.hopeful(THERE)


def test_a_hit_makes_it_hopeful_again() -> None:
    predictor = MatchPredictor(8)
    for _ in range(40):
        predictor.observe(HERE, hit=False)
    predictor.observe(HERE, hit=True)
    assert predictor.hopeful(HERE)


def test_old_hits_are_forgotten() -> None:
    predictor = MatchPredictor(8)
    predictor.observe(HERE, hit=True)
    for _ in range(2000):
        predictor.observe(HERE, hit=False)
    assert not all(predictor.hopeful(HERE) for _ in range(8))
