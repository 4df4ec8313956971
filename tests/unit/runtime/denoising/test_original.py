"""Starting from a picture, and keeping it outside a mask."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.denoising.original import Original
from runtime.denoising.samplers import A_DENOISED
from runtime.denoising.trajectory import Trajectory

SHAPE = (4, 2, 3)
PICTURE = np.linspace(-1, 1, 24, dtype=np.float32).reshape(SHAPE)
MASK = np.array([[[1, 0, 1], [0, 0, 1]]], np.float32)


@pytest.fixture
def make(tables):
    def make(step: int = 2, sampler: str = "plain", seed: int = 11) -> Trajectory:
        table = tables.table(sampler, 4)
        return Trajectory(request=0, index=0, seed=seed, shape=SHAPE, table=table, guidance_scale=1.0, step=step)

    return make


def noise(seed: int = 11) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(SHAPE, np.float32)


def test_it_is_noised_to_the_step_it_enters_at(make) -> None:
    trajectory = make(step=2)
    trajectory.begin({}, original=Original(PICTURE))
    np.testing.assert_allclose(trajectory.latents, 0.75 * PICTURE + 0.5 * noise(), rtol=1e-6)
    assert (trajectory.step, trajectory.steps_left) == (2, 2)


def test_without_a_mask_no_step_looks_at_it_again(make) -> None:
    trajectory = make(step=2)
    trajectory.begin({}, original=Original(PICTURE))
    given = np.ones(SHAPE, np.float32)
    trajectory.advance(given, given)
    assert trajectory.latents is given


def test_outside_the_mask_it_comes_back_after_every_step(make) -> None:
    trajectory = make(step=2)
    trajectory.begin({}, original=Original(PICTURE, MASK))
    drawn = np.full(SHAPE, 9, np.float32)
    trajectory.advance(drawn, drawn)
    again, kept = (MASK > 0)[0], (MASK == 0)[0]
    assert (trajectory.latents[:, again] == 9).all()
    expected = np.float32(0.875) * PICTURE + np.float32(0.25) * noise()
    np.testing.assert_allclose(trajectory.latents[:, kept], expected[:, kept], rtol=1e-6)
    trajectory.advance(drawn, drawn)
    np.testing.assert_array_equal(trajectory.latents[:, kept], PICTURE[:, kept])
    assert (trajectory.latents[:, again] == 9).all()


def test_at_full_strength_inpainting_begins_from_noise_alone(make) -> None:
    trajectory = make(step=0, sampler="noisy")
    trajectory.begin({}, original=Original(PICTURE, MASK))
    np.testing.assert_array_equal(trajectory.latents, noise() * np.float32(3))


def test_a_multistep_sampler_has_its_own_first_update(make, tables) -> None:
    trajectory = make(step=2, sampler="noisy")
    trajectory.begin({}, original=Original(PICTURE))
    table = tables.table("noisy", 4)
    assert trajectory.coefficients()[A_DENOISED] == 0 != table.row(2)[A_DENOISED]
    trajectory.advance(trajectory.latents, trajectory.denoised)
    assert trajectory.coefficients() == table.row(3)


def test_the_encoders_noise_is_the_seeds_and_disturbs_no_other(make) -> None:
    one, other = make(), make(seed=12)
    first = one.encoder_noise()
    np.testing.assert_array_equal(one.encoder_noise(), first)
    assert not np.array_equal(other.encoder_noise(), first)
    assert not np.array_equal(first, noise())
    one.begin({}, original=Original(PICTURE))
    np.testing.assert_allclose(one.latents, 0.75 * PICTURE + 0.5 * noise(), rtol=1e-6)


def test_its_arrays_are_let_go(make) -> None:
    trajectory = make()
    trajectory.begin({}, original=Original(PICTURE, MASK))
    trajectory.end()
    assert trajectory._original is None
    assert trajectory._initial_noise.size == 0
