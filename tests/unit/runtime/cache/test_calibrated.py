"""Our policy: how deep a similar prompt may enter follows the calibration, and where it enters is its own noise."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.errors import EngineIntegrity
from runtime.cache.calibrated import Calibrated, Calibration, PromptMap
from runtime.cache.entry import Entry
from runtime.denoising.trajectory import Trajectory
from tests.unit.runtime.conftest import cache_spec, prompt_map_file

SHAPE = (4, 4, 4)


def policy(quality: float = 0.99, deepest: float = 0.9, **spec: object) -> Calibrated:
    calibration = Calibration(PromptMap(prompt_map_file()), cache_spec(**spec), quality, deepest)
    return Calibrated(calibration)


@pytest.mark.parametrize(("distance", "step"), [(0, 3), (1.49, 3), (1.51, 1), (3.99, 1), (4.01, 0), (1e9, 0)])
def test_how_deep_follows_the_distance(tables, distance: float, step: int) -> None:
    # Timesteps of four steps: 999, 749, 500 (just below the level's), 250 (just below it).
    table = tables.table("plain", 5)  # 999, 799, 599, 400, 200
    assert policy().deepest(distance, table) == {3: 3, 1: 2, 0: 0}[step]


def test_a_lower_bound_lets_farther_prompts_in(tables) -> None:
    table = tables.table("plain", 5)
    strict, lax = policy(quality=0.999), policy(quality=0.9)
    asked = [(strict, 0.9), (policy(), 0.9), (lax, 3.0)]
    assert [calibrated.deepest(distance, table) for calibrated, distance in asked] == [2, 3, 3]


def test_the_bound_is_a_share_of_the_images_that_are_right_without_a_cache(tables) -> None:
    table = tables.table("plain", 5)
    assert [policy(failing=failing).deepest(1.3, table) for failing in (0.0, 0.5)] == [3, 2]


def test_the_operator_may_bound_the_share_skipped(tables) -> None:
    assert policy(deepest=0.4).deepest(0.0, tables.table("plain", 5)) == 2
    assert policy(deepest=0.0).deepest(0.0, tables.table("plain", 5)) == 0


def test_no_farther_than_what_was_measured(tables) -> None:
    levels = [level.model_copy(update={"farthest": 0.5}).model_dump() for level in cache_spec().levels]
    assert policy(levels=levels).deepest(0.6, tables.table("plain", 5)) == 0


def test_it_holds_at_the_measured_size_and_from_its_guidance_on() -> None:
    calibrated = policy(guidance_scale=4.0)
    assert calibrated.applies(32, 32, 4.0)
    assert calibrated.applies(32, 32, 9.0)
    assert not calibrated.applies(32, 32, 3.9)
    assert not calibrated.applies(32, 64, 4.0)


def test_similarity_is_one_for_the_same_and_none_for_prompts_drawn_at_random() -> None:
    assert [policy().similarity(far) for far in (0.0, 100.0, 1e9)] == [1.0, 0.0, -1.0]


@pytest.mark.parametrize("sampler", ["plain", "noisy"])
def test_entering_noises_the_moved_image_with_the_seeds_own_noise(tables, sampler: str) -> None:
    table = tables.table(sampler, 5)
    one, other = (
        Trajectory(request=0, index=0, seed=seed, shape=SHAPE, table=table, guidance_scale=1.0) for seed in (1, 2)
    )
    donor = np.full(SHAPE, 2, np.float16)
    entry = Entry("s", "o", 5, 5, np.array([10], np.float32), donor)
    for trajectory in (one, other):
        trajectory.begin({})
        policy().enter(trajectory, entry, np.array([30], np.float32), 3)
    signal, noise = table.marginal(3)
    image = 2 + 0.01 * (30 - 10)
    np.testing.assert_allclose(one.latents, signal * image + noise * one.initial_noise(), atol=1e-3)
    assert one.step == 3
    assert not np.array_equal(one.latents, other.latents)
    if table.looks_back(3):
        np.testing.assert_allclose(one.denoised, image, atol=1e-3)


def test_one_entry_serves_every_depth(tables) -> None:
    table = tables.table("plain", 5)
    assert list(policy().keeps(table)) == [5]
    assert [policy().usable(5, deepest, table) for deepest in (0, 1, 4)] == [0, 1, 4]
    assert policy().usable(3, 4, table) == 0


def test_what_brings_nothing_new_is_not_admitted() -> None:
    assert [policy().admits(far, entered=False) for far in (None, 5.0, 0.01)] == [True, True, False]


def test_what_began_from_another_image_starts_none() -> None:
    assert [policy().admits(far, entered=True) for far in (None, 5.0, 0.01)] == [False, False, False]


@pytest.mark.parametrize(
    "broken",
    [
        b"rubbish",
        prompt_map_file(metric=[np.nan]),
        prompt_map_file(skip=np.ones((3, 1))),
        prompt_map_file(metric=[1, 1, 1]),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(broken: bytes) -> None:
    with pytest.raises(EngineIntegrity):
        PromptMap(broken)
