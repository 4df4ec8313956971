"""A trajectory's life: queued, stepping, denoised, ended."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.denoising.trajectory import Trajectory, TrajectoryStatus

SHAPE = (4, 2, 3)


@pytest.fixture
def make(tables):
    def make(sampler: str = "plain", steps: int = 3, guidance_scale: float = 5.0, seed: int = 11) -> Trajectory:
        table = tables.table(sampler, steps)
        return Trajectory(request=0, index=0, seed=seed, shape=SHAPE, table=table, guidance_scale=guidance_scale)

    return make


def test_a_queued_trajectory_holds_no_arrays(make) -> None:
    trajectory = make()
    assert trajectory.status is TrajectoryStatus.QUEUED
    assert trajectory.latents.size == trajectory.denoised.size == 0
    assert (trajectory.size, trajectory.steps_left) == ((2, 3), 3)


def test_a_life(make) -> None:
    trajectory = make()
    trajectory.begin({"prompt_embeds": np.ones((2, 8, 4), np.float32)})
    assert trajectory.status is TrajectoryStatus.STEPPING
    for left in (2, 1, 0):
        trajectory.advance(trajectory.latents + 1, trajectory.denoised)
        assert trajectory.steps_left == left
    assert trajectory.status is TrajectoryStatus.DENOISED
    trajectory.end()
    assert trajectory.status is TrajectoryStatus.ENDED
    assert trajectory.latents.size == 0
    assert trajectory.conditioning == {}


def test_noise_is_philox_on_the_seed(make) -> None:
    trajectory = make("noisy", 3)
    trajectory.begin({"prompt_embeds": np.ones((2, 8, 4), np.float32)})
    stream = np.random.Generator(np.random.Philox(11))
    assert np.array_equal(trajectory.latents, stream.standard_normal(SHAPE, np.float32) * np.float32(3))
    for _ in range(2):
        assert np.array_equal(trajectory.draw_noise(), stream.standard_normal(SHAPE, np.float32))
        trajectory.advance(trajectory.latents, trajectory.denoised)
    assert not trajectory.draw_noise().any()  # the last step adds none, and draws none


@pytest.mark.parametrize(("scale", "rows", "used"), [(0.0, 1, 1.0), (1.0, 1, 1.0), (1.1, 2, 1.1), (7.5, 2, 7.5)])
def test_a_guidance_scale_of_at_most_one_means_no_guidance(make, scale: float, rows: int, used: float) -> None:
    trajectory = make(guidance_scale=scale)
    assert (trajectory.rows, trajectory.guidance_scale) == (rows, used)


def test_the_seed_decides_the_noise(make) -> None:
    first, again, other = make(seed=1), make(seed=1), make(seed=2)
    for trajectory in (first, again, other):
        trajectory.begin({"prompt_embeds": np.ones((2, 8, 4), np.float32)})
    assert np.array_equal(first.latents, again.latents)
    assert not np.array_equal(first.latents, other.latents)


def test_entering_later_gets_the_noise_of_that_step(make) -> None:
    from_the_start, later = make("noisy", 4), make("noisy", 4)
    from_the_start.begin({})
    noises = []
    for _ in range(4):
        noises.append(from_the_start.draw_noise())
        from_the_start.advance(from_the_start.latents, from_the_start.denoised)
    given = np.full(SHAPE, 0.5, np.float32)
    later.begin({}, latents=given, step=2)
    assert (later.step, later.steps_left) == (2, 2)
    assert np.array_equal(later.latents, given)
    assert np.array_equal(later.draw_noise(), noises[2])


def test_where_it_will_enter_is_known_before_it_begins(tables) -> None:
    table = tables.table("plain", 5)
    trajectory = Trajectory(request=0, index=0, seed=1, shape=SHAPE, table=table, guidance_scale=1.0, step=3)
    assert trajectory.steps_left == 2
    trajectory.begin({}, latents=np.zeros(SHAPE, np.float32))
    assert trajectory.step == 3
