"""A start on a disk that takes no file larger than 1000 bytes: `full_disk_start.py STORE FOLDER`."""

from __future__ import annotations

import resource
import sys
from functools import partial
from pathlib import Path

import numpy as np

from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import fetch_bundle, kept_graphs, load_bundle
from runtime.bundles.hardware import this_machine
from runtime.engines import open_engine


def main(store: Path, folder: Path) -> None:
    machine = this_machine()
    bundle = fetch_bundle(DirectoryStore(store), "tiny", None, "openvino-fp32", machine, folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    kept = kept_graphs(bundle, machine, folder, 256)
    engine = load_bundle(bundle, 1, partial(open_engine, kept=kept)).engine
    embeds = engine.encode(np.ones((1, 77), np.int64))["prompt_embeds"]
    print(np.isfinite(embeds).all(), sorted(path.name for path in folder.rglob("*") if path.is_file()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
