"""Remembers entries on disk and in a shared store, one after another, until it is killed: `cache_kill.py FOLDER`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

from darkroom.storage.directory import DirectoryStore
from runtime.cache.disk import LatentDisk
from runtime.cache.entry import Entry, pack
from runtime.cache.eviction import saved_work
from runtime.cache.shared import SharedLog


def main(folder: Path, run: str) -> None:
    disk = LatentDisk(folder / "disk", "v", 400_000, saved_work())
    log = SharedLog(DirectoryStore(folder / "store"), "m", "v", run, 1 << 20)
    for number in itertools.count():
        vector, latents = np.full(8, number, np.float32), np.full((4, 64, 64), number % 1000, np.float16)
        entry = Entry("scope", f"{run}x{number}", 4, 4, vector, latents)
        disk.write(entry)
        log.publish([pack(entry)], number)
        print(number, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
