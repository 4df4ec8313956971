"""Silence, measured on the watcher's own clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from darkroom.jobs.lease_watch import LeaseWatch


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> LeaseWatch:
    return LeaseWatch(10.0, clock)


def test_silence_is_the_same_sight_for_the_lease_time(watch: LeaseWatch, clock: Clock) -> None:
    assert watch.silent({"a": ("token", 3)}) == {}
    clock.now = 9.9
    assert watch.silent({"a": ("token", 3)}) == {}
    clock.now = 10.0
    assert watch.silent({"a": ("token", 3)}) == {"a": ("token", 3)}


@pytest.mark.parametrize("other", [("token", 4), ("another", 3)], ids=["a beat", "a new holder"])
def test_any_change_starts_the_time_again(watch: LeaseWatch, clock: Clock, other: tuple[str, int]) -> None:
    watch.silent({"a": ("token", 3)})
    clock.now = 9.0
    assert watch.silent({"a": other}) == {}
    clock.now = 18.9
    assert watch.silent({"a": other}) == {}
    clock.now = 19.0
    assert watch.silent({"a": other}) == {"a": other}


def test_jobs_are_watched_apart_and_keep_their_order(watch: LeaseWatch, clock: Clock) -> None:
    watch.silent({"b": ("t", 0)})
    clock.now = 5.0
    watch.silent({"b": ("t", 0), "a": ("t", 0)})
    clock.now = 10.0
    assert watch.silent({"b": ("t", 0), "a": ("t", 0)}) == {"b": ("t", 0)}
    clock.now = 15.0
    assert list(watch.silent({"b": ("t", 0), "a": ("t", 0)})) == ["b", "a"]


def test_a_job_that_ended_is_forgotten(watch: LeaseWatch, clock: Clock) -> None:
    watch.silent({"a": ("t", 0)})
    watch.silent({})
    clock.now = 10.0
    assert watch.silent({"a": ("t", 0)}) == {}
