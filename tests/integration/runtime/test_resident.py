"""A loaded engine holds no weights twice: of what OpenVINO has copies of, the files' pages are let go of."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import fetch_bundle, kept_graphs
from runtime.bundles.hardware import this_machine
from runtime.engines import mapped, open_engine


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mapped")
def test_pages_of_every_file_are_let_go_of_once_it_is_loaded(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: set[Path] = set()

    def let_go(files: Collection[Path]) -> None:  # that pages then leave memory is for tests of `mapped`
        left.update(files)
        mapped.let_go(files)

    monkeypatch.setattr("runtime.engines.openvino.let_go", let_go)
    monkeypatch.setattr("runtime.engines.compiled.let_go", let_go)
    bundle = fetch_bundle(DirectoryStore(tiny_store), "tiny", None, "openvino-fp32", this_machine(), tmp_path)
    weights = [path for name, path in bundle.files.items() if name.endswith(".bin")]
    drawn = []
    for way in ("compiled", "imported"):
        kept = kept_graphs(bundle, this_machine(), tmp_path, 256)
        engine = open_engine(bundle.target, bundle.files, 1, kept=kept)
        graphs = list((tmp_path / "compiled").iterdir())
        assert (len(weights), len(graphs)) == (4, 3)  # the image encoder is loaded for the first request that needs it
        loaded = {path for path in weights if path.stem != "vae_encoder"}
        assert left >= (loaded if way == "compiled" else {*graphs})
        left.clear()
        drawn.append(engine.encode(np.ones((1, 77), np.int64))["prompt_embeds"].tobytes())
    assert drawn[0] == drawn[1]
