"""The local disk tier: one file an entry, written whole or not at all, read back only if its checksum holds."""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from runtime.cache.entry import Damaged, Entry, pack, unpack
from runtime.cache.eviction import Eviction

_SUFFIX = ".latents"
_SLOTS = 64


class LatentDisk:
    """Entries of one bundle version under a byte budget. Safe to use from several threads.

    No method raises for what a disk does: a write that fails leaves nothing, a read that fails is Damaged. Runtimes
    that share a folder each take a place of their own in it, and the same one again after a restart.
    """

    def __init__(self, folder: Path, version: str, budget: int, eviction: Eviction) -> None:
        """`budget` in bytes of files."""
        self._version = version
        self._budget = budget
        self._eviction = eviction
        self.gone: Callable[[str], None] = lambda _entry: None  # told which entry had to leave
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._place, self._held = _claim(folder)
        self.nbytes = 0

    def close(self) -> None:
        """Let another process have this place."""
        if self._held is not None:
            self._held.close()

    def entries(self) -> Iterator[Entry]:
        """What earlier runs left, newest first and each verified; what is damaged or of another version is removed."""
        if self._place is None:
            return
        with contextlib.suppress(OSError):
            for path in sorted(self._place.glob(f"*{_SUFFIX}"), key=_modified, reverse=True):
                entry = self._reread(path)
                if entry is None:
                    with contextlib.suppress(OSError):
                        path.unlink()
                else:
                    yield entry

    def write(self, entry: Entry) -> bool:
        """Whether it is there now."""
        if self._place is None:
            return False
        path, packed = self._path(entry.id), pack(entry)
        aside = path.with_suffix(".partial")
        try:
            aside.write_bytes(packed)
            aside.replace(path)
        except OSError:  # full, read-only, gone: the cache goes on without it
            with contextlib.suppress(OSError):
                aside.unlink()
            return False
        self._account(entry, len(packed))
        return True

    def read(self, entry: str) -> Entry:
        """Raises Damaged, and removes what is."""
        try:
            content = unpack(self._path(entry).read_bytes())
            if content.id != entry:
                raise Damaged
        except (OSError, Damaged):
            self.remove(entry)
            raise Damaged from None
        return content

    def hit(self, entry: str, saved: int) -> None:
        with self._lock:
            self._eviction.hit(entry, saved)

    def remove(self, entry: str) -> None:
        with self._lock:
            self.nbytes -= self._sizes.pop(entry, 0)
            self._eviction.removed(entry)
        with contextlib.suppress(OSError):
            self._path(entry).unlink()

    def _account(self, entry: Entry, size: int) -> None:
        victims = []
        with self._lock:
            self.nbytes += size - self._sizes.get(entry.id, 0)
            self._sizes[entry.id] = size
            self._eviction.added(entry.id, entry.step, size)
            while self.nbytes > self._budget:
                victim = self._eviction.victim()
                self.nbytes -= self._sizes.pop(victim)
                self._eviction.removed(victim)
                victims.append(victim)
        for victim in victims:
            with contextlib.suppress(OSError):
                self._path(victim).unlink()
            self.gone(victim)

    def _reread(self, path: Path) -> Entry | None:
        try:
            entry = unpack(path.read_bytes())
        except (OSError, Damaged):
            return None
        if path != self._path(entry.id):
            return None
        self._account(entry, path.stat().st_size)
        return entry if entry.id in self._sizes else None

    def _path(self, entry: str) -> Path:
        return (self._place or Path()) / f"{self._version}-{entry}{_SUFFIX}"


def _claim(folder: Path) -> tuple[Path | None, IO[str] | None]:
    """The first place that no other process holds, emptied of what a killed writer left; None where there is none."""
    try:
        for number in range(_SLOTS):
            place = folder / str(number)
            place.mkdir(parents=True, exist_ok=True)
            lock = (place / "lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            for left in place.glob("*.partial"):
                left.unlink()
            return place, lock
    except OSError:
        pass
    return None, None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
