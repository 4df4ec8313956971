"""Releases carried out against a world in memory, with crashes at any point."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.release.advance import Overtaken, advance
from darkroom.release.machine import RETRY_SECONDS, Prove, Reweigh, Update, WritePointer
from darkroom.release.state import UNPINNED, EndpointStatus, Phase, TrafficSplit
from tests.fakes.releases import Crashed, MemoryReleases, MemoryWorld

OLD, NEW, THIRD = "a" * 16, "b" * 16, "c" * 16


def settled() -> tuple[MemoryReleases, MemoryWorld]:
    store, world = MemoryReleases(), MemoryWorld(OLD, TrafficSplit(UNPINNED))
    advance("tiny", store, world)
    return store, world


def ticks(store: MemoryReleases, world: MemoryWorld, times: int = 30) -> None:
    for _ in range(times):
        advance("tiny", store, world)
        world.tick()


def agree(store: MemoryReleases, world: MemoryWorld, version: str) -> None:
    release = store.release
    assert release is not None
    assert (release.phase, release.goal.version, release.proven) == (Phase.SETTLED, version, release.goal)
    assert world.pointer == release.pointer == version
    assert world.running is not None
    assert (world.running.version or OLD) == version


def test_an_endpoint_that_runs_what_the_pointer_names_is_left_alone():
    store, world = settled()
    ticks(store, world)
    agree(store, world, OLD)
    assert world.acts == []


def test_without_an_endpoint_nothing_is_known():
    store, world = MemoryReleases(), MemoryWorld(OLD, None, status=EndpointStatus.ABSENT)
    assert advance("tiny", store, world) is None
    assert store.release is None


def test_publishing_releases():
    store, world = settled()
    world.pointer = NEW
    ticks(store, world)
    agree(store, world, NEW)
    update, prove = world.acts
    assert update == Update(TrafficSplit(NEW), careful=True)
    assert isinstance(prove, Prove)
    assert (prove.traffic, prove.number, prove.attempt) == (TrafficSplit(NEW), 1, 1)


@pytest.mark.parametrize("fault", ["bad", "rejected", "unfit"])
def test_a_version_that_is_not_good_is_taken_back(fault):
    store, world = settled()
    setattr(world, fault, {NEW})
    world.pointer = NEW
    ticks(store, world)
    agree(store, world, OLD)
    assert store.release.failed == TrafficSplit(NEW)
    assert store.release.why
    assert sum(isinstance(act, WritePointer) for act in world.acts) == 1


def test_rolling_back_is_one_request():
    store, world = settled()
    world.pointer = NEW
    ticks(store, world)
    store.ask(store.release.rollback)
    ticks(store, world)
    agree(store, world, OLD)
    assert store.release.earlier == ()


def test_a_release_under_way_can_be_rolled_back():
    store, world = settled()
    world.pointer = NEW
    advance("tiny", store, world)
    store.ask(store.release.rollback)
    ticks(store, world)
    agree(store, world, OLD)
    assert Update(TrafficSplit(OLD), careful=False) in world.acts


def test_traffic_is_split_shifted_and_given_to_one_again():
    store, world = settled()
    store.ask(TrafficSplit(OLD, NEW, 10))
    ticks(store, world)
    assert world.running == TrafficSplit(OLD, NEW, 10)
    store.ask(TrafficSplit(OLD, NEW, 50))
    ticks(store, world)
    assert world.running == TrafficSplit(OLD, NEW, 50)
    assert sum(isinstance(act, Reweigh) for act in world.acts) == 1
    store.ask(TrafficSplit(NEW))
    ticks(store, world)
    agree(store, world, NEW)
    assert store.release.rollback == TrafficSplit(OLD)


def test_publishing_ends_a_split():
    store, world = settled()
    store.ask(TrafficSplit(OLD, NEW, 10))
    ticks(store, world)
    world.pointer = THIRD
    ticks(store, world)
    agree(store, world, THIRD)


def test_a_change_by_another_hand_is_undone():
    store, world = settled()
    world.pointer = NEW
    ticks(store, world)
    world.running = TrafficSplit(OLD)
    ticks(store, world)
    agree(store, world, NEW)


def test_where_nothing_works_any_more_it_waits_and_tries_again():
    store, world = settled()
    world.bad = {NEW, OLD}
    world.pointer = NEW
    ticks(store, world)
    assert store.release.phase is Phase.STUCK
    assert world.pointer == OLD
    world.bad = {NEW}
    world.tick(RETRY_SECONDS)
    ticks(store, world)
    agree(store, world, OLD)


def test_who_was_overtaken_writes_nothing():
    store, world = settled()
    world.pointer = NEW

    def another(_where: str) -> None:
        store.token += 1

    world.at = another
    with pytest.raises(Overtaken):  # noticed at the save after the act that was under way
        advance("tiny", store, world)
    assert store.release.phase is Phase.PREPARING
    store.at, world.at = another, lambda _where: None
    with pytest.raises(Overtaken):
        advance("tiny", store, world)


# ---- crashes ------------------------------------------------------------------------------------------------------


class Crashing:
    """Dies at the given crash points, counted over the whole run; the next tick starts a new process."""

    def __init__(self, points: set[int]) -> None:
        self.points, self.count = points, 0

    def __call__(self, _where: str) -> None:
        self.count += 1
        if self.count in self.points:
            raise Crashed


def survive(store: MemoryReleases, world: MemoryWorld, times: int) -> None:
    for _ in range(times):
        with contextlib.suppress(Crashed):
            advance("tiny", store, world)
        world.tick()


@pytest.mark.parametrize("fault", ["", "bad", "rejected", "unfit"])
@pytest.mark.parametrize("point", range(1, 30))
def test_a_crash_at_any_one_point_is_made_good(point, fault):
    store, world = settled()
    if fault:
        setattr(world, fault, {NEW})
    world.pointer = NEW
    world.at = store.at = Crashing({point})
    survive(store, world, 40)
    agree(store, world, OLD if fault else NEW)


TRAFFIC = st.one_of(
    st.sampled_from([TrafficSplit(OLD), TrafficSplit(NEW), TrafficSplit(THIRD)]),
    st.builds(TrafficSplit, st.just(OLD), st.sampled_from([NEW, THIRD]), st.sampled_from([10, 50])),
)
EVENTS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from([OLD, NEW, THIRD])),
    st.tuples(st.just("ask"), TRAFFIC),
    st.tuples(st.just("rollback"), st.none()),
    st.tuples(st.just("another hand"), st.sampled_from([OLD, NEW])),
)


@given(
    events=st.lists(st.tuples(st.integers(0, 12), EVENTS), max_size=6),
    crashes=st.sets(st.integers(1, 80), max_size=12),
    faults=st.dictionaries(st.sampled_from([NEW, THIRD]), st.sampled_from(["bad", "rejected", "unfit"])),
)
def test_pointer_and_endpoint_come_to_agree_whatever_happens(events, crashes, faults):
    """Publications, requests, rollbacks, other hands and crashes at any point, with versions that do not work."""
    store, world = settled()
    for version, fault in faults.items():
        getattr(world, fault).add(version)
    world.at = store.at = Crashing(crashes)
    for pause, (kind, what) in events:
        if kind == "publish":
            world.pointer = what
        elif kind == "ask":
            store.ask(what)
        elif kind == "rollback" and store.release.rollback is not None:
            store.ask(store.release.rollback)
        elif kind == "another hand" and world.status is EndpointStatus.READY:
            world.running = TrafficSplit(what)
        survive(store, world, pause)
    survive(store, world, 90)
    agree(store, world, store.release.goal.version)
    assert not {version for version in store.release.proven.versions if version in faults}
    assert store.release.answered == (store.request.number if store.request else 0)


def test_progress_and_requests_do_not_overwrite_each_other():
    store, world = settled()
    world.pointer = NEW
    advance("tiny", store, world)
    store.ask(TrafficSplit(OLD))
    assert store.release == replace(store.release, answered=0)
    ticks(store, world)
    agree(store, world, OLD)
