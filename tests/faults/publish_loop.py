"""A publisher that is killed at its first flush to disk, its second, and so on, until one gets through.

Run as a program of its own, because forking needs a process without threads: `publish_loop.py FOLDER`. Prints one JSON
line for each publisher: how it ended, whether the old or the new version is served, and whether that one is whole.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import NoReturn

from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.storage.directory import DirectoryStore
from tests.fakes import bundle


def publish(root: Path, made: EngineManifest, files: dict[str, Path], flushes: int) -> NoReturn:
    """In a child: die at flush number `flushes`, counted from 0."""
    fsync, flushed = os.fsync, count()

    def flush(descriptor: int) -> None:
        if next(flushed) == flushes:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = flush
    status = 1
    try:
        catalog.publish(DirectoryStore(root), made, files)
        status = 0
    finally:
        os._exit(status)


def main(folder: Path) -> None:
    files = {path: folder / path for path in bundle.FILES}
    for path, body in bundle.FILES.items():
        files[path].write_bytes(body)
    root = folder / "objects"
    store = DirectoryStore(root)
    old = bundle.manifest()
    catalog.publish(store, old, files)
    for flushes in count():
        new = bundle.manifest(checkpoint=f"{flushes + 1:064x}")
        if not os.fork():
            publish(root, new, files, flushes)
        ending = os.waitstatus_to_exitcode(os.wait()[1])
        served = catalog.load_manifest(store, old.model)
        bodies = {path: store.get(catalog.bundle_key(served.model, served.version, path)) for path in bundle.FILES}
        which = {old.version: "old", new.version: "new"}.get(served.version)
        print(json.dumps({"ending": ending, "served": which, "whole": bodies == bundle.FILES}))
        if which == "new":
            old = new
        if ending == 0:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
