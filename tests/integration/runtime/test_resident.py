"""A loaded engine holds no weights twice: of what OpenVINO has copies of, the files' pages are let go of."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import fetch_bundle, kept_graphs
from runtime.bundles.hardware import this_machine
from runtime.engines import open_engine
from tests.resident import resident


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mapped")
def test_few_pages_of_the_files_are_held_once_they_are_loaded(tiny_store: Path, tmp_path: Path) -> None:
    bundle = fetch_bundle(DirectoryStore(tiny_store), "tiny", None, "openvino-fp32", this_machine(), tmp_path)
    weights = [path for name, path in bundle.files.items() if name.endswith(".bin")]
    drawn = []
    for _ in ("compiled", "imported"):
        kept = kept_graphs(bundle, this_machine(), tmp_path, 256)
        engine = open_engine(bundle.target, bundle.files, 1, kept=kept)
        graphs = list((tmp_path / "compiled").iterdir())
        assert (len(weights), len(graphs)) == (4, 3)  # the image encoder is loaded for the first request that needs it
        files = [*weights, *graphs]
        # Of those imported 70 % without it. A page that another processor has just put in memory may stay.
        assert sum(map(resident, files)) < 0.55 * sum(path.stat().st_size for path in files) / 1024
        drawn.append(engine.encode(np.ones((1, 77), np.int64))["prompt_embeds"].tobytes())
    assert drawn[0] == drawn[1]
