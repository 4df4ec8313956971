"""What keeps replicas alike: a thread that gives the store what is new here, and takes from it what is new there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import structlog

from runtime.cache.entry import MAGIC, Damaged, Entry, pack, unpack
from runtime.cache.latent_cache import LatentCache
from runtime.cache.repeats import Finished, Repeats
from runtime.cache.shared import SharedLog

_MOST_WAITING = 4096  # records, while the store does not answer


class Sharing:
    """`add` may be called from any thread and returns at once; all else is the thread's own."""

    def __init__(
        self,
        latents: LatentCache | None,
        repeats: Repeats,
        log: SharedLog | None,
        *,
        seconds: float,
        clock: Callable[[], float],
        damaged: Callable[[], object] = lambda: None,
    ) -> None:
        """`seconds` between exchanges; `clock` is the wall clock in epoch seconds; `damaged` is told of each record."""
        self._latents = latents
        self._repeats = repeats
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._damaged = damaged
        self.waiting: deque[Entry | Finished] = deque(maxlen=_MOST_WAITING)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cache-sharing", daemon=True)

    def add(self, made: Entry | Finished) -> None:
        """This replica made it."""
        if self._log is not None:
            self.waiting.append(made)

    def exchange(self) -> None:
        """Give and take once. Never raises for what a store or a record is like."""
        if self._log is None:
            return
        records = []
        while self.waiting:
            item = self.waiting.popleft()
            records.append(pack(item) if isinstance(item, Entry) else item.pack())
        self._log.publish(records, self._clock())
        for record in self._log.news():
            try:
                self._take(record)
            except Damaged:
                self._damaged()

    def start(self) -> None:
        """Warm from the disk, then exchange again and again, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Does not wait."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            if self._latents is not None:
                self._latents.warm()
            while not self._stopped.is_set():
                self.exchange()
                self._stopped.wait(self._seconds)
        except Exception:  # requests go on without what it would have brought
            structlog.get_logger().exception("cache sharing ended")

    def _take(self, record: bytes) -> None:
        if record.startswith(MAGIC):
            entry = unpack(record)
            if self._latents is not None:
                self._latents.take(entry)
        else:
            self._repeats.add(Finished.unpack(record))
