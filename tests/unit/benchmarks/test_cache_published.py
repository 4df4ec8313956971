"""The published policy does what its paper says, and scales to other numbers of steps."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.cache.entry import Entry
from runtime.cache.eviction import EVICTIONS
from runtime.cache.index import unit
from runtime.cache.published import Published
from runtime.denoising.trajectory import Trajectory

PUBLISHED = Published("nirvana", EVICTIONS["lcbfu"], 4, end_token=1)


def distance(similarity: float) -> float:
    """Squared, of two unit vectors with this cosine."""
    return 2 - 2 * similarity


@pytest.mark.parametrize(
    ("similarity", "steps", "step"),
    [
        *((1.0, 50, 25), (0.96, 50, 25), (0.95, 50, 20), (0.91, 50, 20), (0.86, 50, 15), (0.76, 50, 10)),
        *((0.66, 50, 5), (0.65, 50, 0), (0.2, 50, 0)),
        *((0.99, 25, 12), (0.7, 25, 2), (0.7, 4, 0), (0.99, 4, 2)),
    ],
)
def test_thresholds(tables, similarity: float, steps: int, step: int) -> None:
    assert PUBLISHED.deepest(distance(similarity), tables.table("plain", steps)) == step


def test_five_steps_are_kept(tables) -> None:
    assert sorted(PUBLISHED.keeps(tables.table("plain", 50))) == [5, 10, 15, 20, 25]
    assert sorted(PUBLISHED.keeps(tables.table("plain", 4))) == [1, 2]
    assert sorted(PUBLISHED.keeps(tables.table("plain", 1))) == []


def test_the_embedding_is_pooled_at_the_first_end_token(tables) -> None:
    embeds = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    np.testing.assert_allclose(PUBLISHED.vector(embeds, np.array([[0, 7, 1, 1]])), unit(embeds[0, 2]))


def test_entering_takes_the_stored_latents_themselves(tables) -> None:
    table = tables.table("noisy", 50)
    shape = (4, 4, 4)
    trajectory = Trajectory(request=0, index=0, seed=1, shape=shape, table=table, guidance_scale=1.0)
    trajectory.begin({})
    latents, denoised = np.full(shape, 2, np.float16), np.full(shape, 3, np.float16)
    entry = Entry("s", "o", 10, 50, np.zeros(4, np.float32), latents, denoised)
    PUBLISHED.enter(trajectory, entry, entry.vector, 10)
    assert (trajectory.step, trajectory.latents.max(), trajectory.denoised.min()) == (10, 2, 3)
    assert trajectory.latents.dtype == np.float32


def test_only_what_lies_not_deeper_may_be_used(tables) -> None:
    table = tables.table("plain", 50)
    assert [PUBLISHED.usable(step, 15, table) for step in (5, 15, 20)] == [5, 15, 0]


def test_tightened_thresholds_are_nearer_to_one(tables) -> None:
    tight = Published("nirvana", EVICTIONS["lcbfu"], 4, end_token=1, tighten=0.5)
    table = tables.table("plain", 50)
    assert tight.deepest(distance(0.97), table) == 20
    assert PUBLISHED.deepest(distance(0.97), table) == 25
