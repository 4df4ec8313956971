"""The memory tier: a byte budget, one index a scope, and what is only on disk."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.cache.eviction import Scored, saved_work
from runtime.cache.memory import LatentMemory

EACH = 128 + 8  # latents and vector of the fixture's entries


@pytest.fixture
def memory() -> LatentMemory:
    """Room for three entries, the oldest leaves."""
    return LatentMemory(3 * EACH, 2, lambda vector: vector, Scored(lambda account: account.order))


def names(memory: LatentMemory, scope: str = "scope") -> list[str]:
    return sorted(found.name for found in memory.nearest(scope, np.zeros(2, np.float32), 10))


def test_the_budget_holds_and_the_index_follows(memory, make_entry) -> None:
    for number in range(5):
        memory.add(make_entry(f"o{number}", at=number))
        assert memory.nbytes <= 3 * EACH
    assert names(memory) == ["o2", "o3", "o4"]
    assert len(memory) == 3


def test_an_origin_leaves_with_its_last_entry(memory, make_entry) -> None:
    memory.add(make_entry("one", step=1))
    memory.add(make_entry("one", step=2))
    memory.forget("one-1")
    (found,) = memory.nearest("scope", np.zeros(2, np.float32), 5)
    assert found.steps == (2,)
    memory.forget("one-2")
    assert names(memory) == []
    assert memory.nbytes == 0
    memory.forget("one-2")


def test_scopes_never_see_each_other(memory, make_entry) -> None:
    memory.add(make_entry("mine"))
    memory.add(make_entry("theirs", scope="other"))
    assert names(memory) == ["mine"]
    assert names(memory, "other") == ["theirs"]
    assert names(memory, "third") == []


def test_what_is_on_disk_stays_in_the_index_and_comes_back(memory, make_entry) -> None:
    memory.add(make_entry("cold"))
    memory.stored_on_disk("cold-4")
    for number in range(3):
        memory.add(make_entry(f"o{number}"))
    assert "cold" in names(memory)
    slot = memory.get("cold", 4)
    assert slot is not None
    assert slot.entry is None
    memory.add(make_entry("cold"), on_disk=True)
    assert slot.entry is not None
    assert memory.nbytes <= 3 * EACH
    memory.forget("cold-4")
    assert "cold" not in names(memory)


def test_what_leaves_the_disk_leaves_the_index_unless_it_is_in_memory(memory, make_entry) -> None:
    memory.add(make_entry("cold"), on_disk=True)
    memory.gone_from_disk("cold-4")
    assert names(memory) == ["cold"]
    memory.stored_on_disk("cold-4")
    for number in range(3):
        memory.add(make_entry(f"o{number}"))
    memory.gone_from_disk("cold-4")
    assert "cold" not in names(memory)
    assert memory.get("cold", 4) is None


def test_adding_again_changes_nothing(memory, make_entry) -> None:
    memory.add(make_entry("one"))
    memory.add(make_entry("one"))
    assert (len(memory), memory.nbytes, memory.holds("one-4"), memory.holds("one-3")) == (1, EACH, True, False)


def test_an_entry_larger_than_all_room_does_not_stay(make_entry) -> None:
    memory = LatentMemory(10, 2, lambda vector: vector, saved_work())
    memory.add(make_entry("one"))
    assert (len(memory), memory.nbytes) == (0, 0)
