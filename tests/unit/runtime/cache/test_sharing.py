"""Replicas that share a store: each soon knows what the others made, whatever the store is like."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.contracts import GeneratedImage
from darkroom.errors import StorageFull, StorageUnavailable
from darkroom.storage.directory import DirectoryStore
from runtime.cache.entry import Entry
from runtime.cache.repeats import Finished, Repeats
from runtime.cache.shared import SharedLog
from runtime.cache.sharing import Sharing

IMAGE = GeneratedImage(
    key="images/a/0.png", seed=1, width=8, height=8, content_type="image/png", size=3, sha256="0" * 64
)


class Taken:
    def __init__(self) -> None:
        self.entries: list[str] = []

    def take(self, entry: Entry) -> None:
        self.entries.append(entry.id)

    def warm(self) -> None:
        self.entries.append("warmed")


class Replica:
    def __init__(self, store, name: str, budget: int = 1 << 20) -> None:
        self.taken, self.repeats, self.damaged, self.failed = Taken(), Repeats(10), [], []
        self.now = 1000.0
        log = SharedLog(store, "m", "v", name, budget, lambda: self.failed.append(1))
        self.sharing = Sharing(
            self.taken,
            self.repeats,
            log,
            seconds=5,
            clock=lambda: self.now,
            damaged=lambda: self.damaged.append(1),
        )


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_a_replica_learns_what_another_made_once(store, make_entry) -> None:
    one, two = Replica(store, "one"), Replica(store, "two")
    one.sharing.add(make_entry("a"))
    one.sharing.add(Finished("key", IMAGE))
    one.sharing.exchange()
    two.sharing.exchange()
    two.sharing.exchange()
    assert two.taken.entries == ["a-4"]
    assert two.repeats.find("key") == IMAGE
    assert one.taken.entries == []


def test_many_entries_are_few_objects(store, make_entry) -> None:
    one = Replica(store, "one")
    for number in range(130):
        one.sharing.add(make_entry(f"o{number}"))
    one.sharing.exchange()
    assert len(list(store.keys("cache/"))) == 3


def test_damage_costs_what_is_damaged(store, make_entry) -> None:
    one, two = Replica(store, "one"), Replica(store, "two")
    for name in ("a", "b", "c"):
        one.sharing.add(make_entry(name))
    one.sharing.exchange()
    (key,) = store.keys("cache/")
    body = bytearray(store.get(key))
    body[len(body) // 2] ^= 1
    store.put(key, bytes(body))
    two.sharing.exchange()
    assert two.taken.entries == ["a-4", "c-4"]
    assert len(two.damaged) == 1


@pytest.mark.parametrize("body", [b"", b"abc", b"\xff" * 40, b"\x05\0\0\0hello"])
def test_rubbish_in_the_store_is_passed_over(store, make_entry, body) -> None:
    store.put("cache/m/v/000000000000001-0000000010-x-0.latents", body)
    store.put("cache/m/v/rubbish", b"")
    one = Replica(store, "one")
    one.sharing.exchange()
    assert one.taken.entries == []


def test_the_oldest_segments_make_room(store, make_entry) -> None:
    one = Replica(store, "one", budget=1500)
    for number in range(5):
        one.now += 1
        one.sharing.add(make_entry(f"o{number}"))
        one.sharing.exchange()
    assert 1 <= len(list(store.keys("cache/"))) < 5
    two = Replica(store, "two")
    two.sharing.exchange()
    assert two.taken.entries[0] == "o4-4"


def test_a_store_that_does_not_answer_is_no_fault(make_entry) -> None:
    class Broken:
        def put(self, *_: object, **__: object) -> None:
            raise StorageFull

        def get(self, *_: object) -> bytes:
            raise StorageUnavailable

        def keys(self, _: str):
            yield "cache/m/v/000000000000001-0000000010-x-0.latents"

        def delete(self, _: str) -> None:
            raise StorageUnavailable

    one = Replica(Broken(), "one", budget=5)
    one.sharing.add(make_entry("a"))
    one.sharing.exchange()
    larger = Replica(Broken(), "two")
    larger.sharing.exchange()
    assert (len(one.failed), len(larger.failed)) == (2, 1)


def test_its_thread_warms_exchanges_and_ends(store, make_entry) -> None:
    one, two = Replica(store, "one"), Replica(store, "two")
    one.sharing.add(make_entry("a"))
    one.sharing.exchange()
    two.sharing.start()
    two.sharing.stop()
    two.sharing._thread.join(10)
    assert two.taken.entries[:1] == ["warmed"]


def test_without_a_store_nothing_is_kept(make_entry) -> None:
    sharing = Sharing(Taken(), Repeats(1), None, seconds=5, clock=lambda: 0.0)
    sharing.add(make_entry("a"))
    sharing.add(Finished("key", IMAGE))
    sharing.exchange()
    assert not sharing.waiting
