"""The memory tier: entries under a byte budget, found by their prompts' nearness, each scope by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.arrays import Floats
from runtime.cache.entry import Entry
from runtime.cache.eviction import Eviction
from runtime.cache.index import VectorIndex


@dataclass
class Slot:
    """One entry's place: `entry` is None where it is only on disk."""

    entry: Entry | None
    nbytes: int
    on_disk: bool = False


@dataclass
class Origin:
    """A trajectory some of whose latents are remembered: one point of its scope's index."""

    scope: str
    slots: dict[int, Slot] = field(default_factory=dict)


@dataclass
class Scope:
    """Whoever may see the same entries; it is there while there is one of them.

    `hits` counts the look-ups in a row that found an entry.
    """

    index: VectorIndex
    hits: int = 0


@dataclass(frozen=True)
class Neighbour:
    """A remembered trajectory at a squared distance, and the steps whose latents there are."""

    name: str
    distance: float
    steps: tuple[int, ...]


class LatentMemory:
    """Safe to use from several threads. An origin leaves the index with its last entry."""

    def __init__(
        self,
        budget: int,
        dimensions: int,
        point: Callable[[Floats], Floats],
        eviction: Eviction,
        evicted: Callable[[], object] = lambda: None,
    ) -> None:
        """`budget` in bytes; `point` places a vector in the index; `evicted` is told of each that left memory."""
        self._budget = budget
        self._dimensions = dimensions
        self._point = point
        self._eviction = eviction
        self._evicted = evicted
        self._origins: dict[str, Origin] = {}
        self._entries: dict[str, tuple[str, int]] = {}
        self._scopes: dict[str, Scope] = {}
        self._lock = threading.RLock()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def holds(self, entry: str) -> bool:
        """In whichever tier."""
        with self._lock:
            return entry in self._entries

    def add(self, entry: Entry, *, on_disk: bool = False) -> None:
        """Remember an entry, or bring one back that was only on disk; what then is too much leaves.

        Raises ValueError where its vector does not fit this policy's.
        """
        with self._lock:
            origin = self._origins.get(entry.origin)
            if origin is None:
                scope = self._scopes.get(entry.scope) or Scope(VectorIndex(self._dimensions))
                scope.index.add(entry.origin, self._point(entry.vector))
                self._scopes[entry.scope] = scope
                self._origins[entry.origin] = origin = Origin(entry.scope)
            slot = origin.slots.get(entry.step)
            if slot is None:
                slot = origin.slots[entry.step] = Slot(None, entry.nbytes)
                self._entries[entry.id] = entry.origin, entry.step
            slot.on_disk |= on_disk
            if slot.entry is None:
                slot.entry = entry
                self.nbytes += slot.nbytes
                self._eviction.added(entry.id, entry.step, slot.nbytes)
            while self.nbytes > self._budget:
                self._evict(self._eviction.victim())

    def nearest(self, scope: str, point: Floats, count: int) -> list[Neighbour]:
        """At most `count` of the scope's origins, nearest first."""
        with self._lock:
            if scope not in self._scopes:
                return []
            near = self._scopes[scope].index.nearest(point, count)
            return [Neighbour(name, distance, tuple(self._origins[name].slots)) for name, distance in near]

    def hits(self, scope: str) -> int:
        """How many look-ups in a row found an entry."""
        with self._lock:
            return self._scopes[scope].hits if scope in self._scopes else 0

    def looked_up(self, scope: str, *, hit: bool) -> None:
        with self._lock:
            if scope in self._scopes:
                self._scopes[scope].hits = self._scopes[scope].hits + 1 if hit else 0

    def get(self, name: str, step: int) -> Slot | None:
        with self._lock:
            origin = self._origins.get(name)
            return origin.slots.get(step) if origin is not None else None

    def hit(self, entry: str, saved: int) -> None:
        with self._lock:
            self._eviction.hit(entry, saved)

    def stored_on_disk(self, entry: str) -> None:
        """It can come back from there once it has left memory."""
        self._mark(entry, on_disk=True)

    def gone_from_disk(self, entry: str) -> None:
        self._mark(entry, on_disk=False)

    def forget(self, entry: str) -> None:
        """Remove an entry from memory and index, e.g. because what is on disk is damaged."""
        with self._lock:
            if entry in self._entries:
                slot = self._slot(entry)
                slot.on_disk = False
                if slot.entry is None:
                    self._remove(entry)
                else:
                    self._evict(entry)

    def _mark(self, entry: str, *, on_disk: bool) -> None:
        with self._lock:
            if entry in self._entries:
                slot = self._slot(entry)
                slot.on_disk = on_disk
                if slot.entry is None and not on_disk:
                    self._remove(entry)

    def _slot(self, entry: str) -> Slot:
        name, step = self._entries[entry]
        return self._origins[name].slots[step]

    def _evict(self, entry: str) -> None:
        slot = self._slot(entry)
        slot.entry = None
        self.nbytes -= slot.nbytes
        self._eviction.removed(entry)
        if not slot.on_disk:
            self._remove(entry)
        self._evicted()

    def _remove(self, entry: str) -> None:
        name, step = self._entries.pop(entry)
        origin = self._origins[name]
        del origin.slots[step]
        if not origin.slots:
            del self._origins[name]
            index = self._scopes[origin.scope].index
            index.remove(name)
            if not len(index):
                del self._scopes[origin.scope]
