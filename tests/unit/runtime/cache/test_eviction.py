"""Who leaves first."""

from __future__ import annotations

import pytest

from runtime.cache.eviction import Scored, saved_work


def order(eviction: Scored, events: list[tuple[str, int]]) -> list[str]:
    """Add a, b and c (steps 5, 20, 10), hit entries, then evict all."""
    for entry, step in (("a", 5), ("b", 20), ("c", 10)):
        eviction.added(entry, step, 100)
    for entry, saved in events:
        eviction.hit(entry, saved)
    left = []
    for _ in range(3):
        left.append(eviction.victim())
        eviction.removed(left[-1])
    return left


def test_what_saved_the_least_goes_first() -> None:
    events = [("c", 40), ("a", 5), ("a", 5), ("a", 5)]  # 10; 15 + 2.5; 40 + 5
    assert order(saved_work(), events) == ["b", "a", "c"]


def test_of_equals_the_oldest_goes_first() -> None:
    assert order(Scored(lambda _: 0), [("a", 5)]) == ["a", "b", "c"]


def test_saved_work_counts_bytes() -> None:
    eviction = saved_work()
    eviction.added("large", 10, 400)
    eviction.added("small", 10, 100)
    eviction.hit("large", 10)  # (10 + 5) / 400 < 5 / 100
    assert eviction.victim() == "large"


def test_saved_work_ages() -> None:
    eviction = saved_work()
    eviction.added("old", 10, 1)
    eviction.hit("old", 5)
    for number in range(4):  # each comes and goes, and raises the floor for who comes next
        eviction.added(f"passing {number}", 10, 1)
        victim = eviction.victim()
        eviction.removed(victim)
        if victim == "old":
            break
    assert victim == "old"


def test_nothing_is_nobodys_victim() -> None:
    eviction = saved_work()
    with pytest.raises(LookupError):
        eviction.victim()
    eviction.hit("unknown", 1)
    eviction.removed("unknown")


def test_a_new_entry_is_worth_half_of_what_it_allows() -> None:
    eviction = saved_work()
    eviction.added("hit", 0, 100)
    eviction.hit("hit", 25)
    eviction.added("new", 6, 10)  # 25 / 100 < 3 / 10
    assert eviction.victim() == "hit"


def test_a_new_entry_has_saved_nothing() -> None:
    eviction = saved_work()
    eviction.added("large", 24, 100)
    eviction.added("small", 2, 10)  # 1 / 10 < 12 / 100
    assert eviction.victim() == "small"


def test_without_ageing_what_was_hit_more_often_stays() -> None:
    eviction = Scored(lambda account: account.hits)
    eviction.added("kept", 1, 1)
    for _ in range(3):
        eviction.hit("kept", 1)
    for number in range(4):
        eviction.added(f"passing {number}", 1, 1)
        for _ in range(2):
            eviction.hit(f"passing {number}", 1)
        assert eviction.victim() == f"passing {number}"
        eviction.removed(f"passing {number}")
