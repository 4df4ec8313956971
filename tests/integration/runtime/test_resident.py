"""A loaded engine holds no weights twice: of what OpenVINO has copies of, the files' pages are let go of."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import fetch_bundle, kept_graphs
from runtime.bundles.hardware import this_machine
from runtime.engines import OnCpu, open_engine
from tests.resident import resident


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mapped")
def test_no_page_of_the_files_is_held_once_they_are_loaded(tiny_store: Path, tmp_path: Path) -> None:
    bundle = fetch_bundle(DirectoryStore(tiny_store), "tiny", None, "openvino-fp32", this_machine(), tmp_path)
    weights = [path for name, path in bundle.files.items() if name.endswith(".bin")]
    drawn = []
    for _ in ("compiled", "imported"):
        kept = kept_graphs(bundle, this_machine(), tmp_path, 256)
        engine = open_engine(bundle.target, bundle.files, 1, on_cpu=OnCpu(kept))
        graphs = list((tmp_path / "compiled").iterdir())
        assert (len(weights), len(graphs)) == (4, 3)  # the image encoder is loaded for the first request that needs it
        assert [resident(path) for path in [*weights, *graphs]] == [0] * 7
        drawn.append(engine.encode(np.ones((1, 77), np.int64))["prompt_embeds"].tobytes())
    assert drawn[0] == drawn[1]
