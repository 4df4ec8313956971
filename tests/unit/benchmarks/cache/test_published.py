"""The published policy does what its paper says, and scales to other numbers of steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.cache.published import Published, lcbfu, lru, unit
from darkroom.bundles.manifest import SamplerSpec
from runtime.cache.entry import Entry
from runtime.cache.eviction import Scored
from runtime.cache.latent_cache import LatentCache
from runtime.denoising.samplers import SamplerTables
from runtime.denoising.trajectory import Trajectory
from runtime.metrics import Metrics
from tests.unit.runtime.cache.test_eviction import order
from tests.unit.runtime.conftest import MAX_STEPS, tables_file

SPEC = SamplerSpec(tables="samplers.safetensors", names=["plain", "noisy"], max_steps=MAX_STEPS, entries=True)
PUBLISHED = Published(lcbfu, 4, end_token=1)


@pytest.fixture(scope="module")
def tables() -> SamplerTables:
    return SamplerTables(tables_file(), SPEC)


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
    tight = Published(lcbfu, 4, end_token=1, tighten=0.5)
    table = tables.table("plain", 50)
    assert tight.deepest(distance(0.97), table) == 20
    assert PUBLISHED.deepest(distance(0.97), table) == 25


def test_unit_vectors() -> None:
    np.testing.assert_allclose(unit(np.array([3, 4], np.float32)), [0.6, 0.8])
    np.testing.assert_array_equal(unit(np.zeros(2, np.float32)), [0, 0])


@pytest.mark.parametrize("eviction", [lru, lcbfu])  # 0 hits; 1 hit x 10; 3 hits x 5
def test_the_lowest_score_goes_first(eviction: Callable[[], Scored]) -> None:
    assert order(eviction(), [("c", 40), ("a", 5), ("a", 5), ("a", 5)]) == ["b", "c", "a"]


def test_lcbfu_is_hits_times_step() -> None:
    assert order(lcbfu(), [("a", 5), ("a", 5), ("a", 5), ("b", 20), ("c", 10), ("c", 10)]) == ["a", "b", "c"]


class Engine:
    """An image is where it began, and what its cache skipped of it."""

    def __init__(self, tables: SamplerTables) -> None:
        self.cache = LatentCache(PUBLISHED, 1 << 20, Metrics())
        self._table = tables.table("plain", 50)

    def draw(self, seed: int, images: int = 1) -> tuple[list[Trajectory], int]:
        table, shape = self._table, (4, 4, 4)
        drawn = [
            Trajectory(request=seed, index=index, seed=seed + index, shape=shape, table=table, guidance_scale=1.0)
            for index in range(images)
        ]
        for trajectory in drawn:
            trajectory.begin({})
        visit = self.cache.visit("all", np.ones((1, 4, 4), np.float32), np.array([[0, 1, 1, 1]]), drawn)
        for trajectory in drawn:
            while trajectory.steps_left:
                trajectory.advance(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
                self.cache.passed(visit, trajectory)
            self.cache.finished(visit, trajectory, f"{seed}-{trajectory.index}")
        return drawn, visit.skipped


def test_it_goes_on_exactly_where_its_donor_was(tables) -> None:
    """From the donor's own latents the donor's image comes out again, to half precision."""
    engine = Engine(tables)
    (donor,), nothing = engine.draw(seed=1)
    (other,), skipped = engine.draw(seed=2)
    assert (nothing, skipped) == (0, 25)
    np.testing.assert_allclose(other.latents, donor.latents, atol=1e-3)


def test_one_donor_is_given_to_one_image_only(tables) -> None:
    engine = Engine(tables)
    engine.draw(seed=1)
    assert engine.draw(seed=2, images=3)[1] == 25
