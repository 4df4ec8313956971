"""Faults of the compiled graphs that a start finds on its disk; each test is named after its row."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import Bundle, fetch_bundle, kept_graphs, load_bundle
from runtime.bundles.hardware import this_machine
from runtime.engines import open_engine

TARGET = "openvino-fp32"
COMPONENTS = 3
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def bundle(tiny_store: Path, tmp_path: Path) -> Bundle:
    return fetch_bundle(DirectoryStore(tiny_store), "tiny", None, TARGET, this_machine(), tmp_path)


class Start:
    """Loads the bundle as a runtime does and draws with it; counts what OpenVINO compiled and what it imported."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.bundle, self.folder = bundle, folder
        self.compiled: list[Any] = []
        self.imported: list[Any] = []

    def __call__(self, threads: int = 1) -> bytes:
        self.compiled.clear()
        self.imported.clear()
        kept = kept_graphs(self.bundle, this_machine(), self.folder, 256)
        engine = load_bundle(self.bundle, threads, partial(open_engine, kept=kept)).engine
        numbers = np.random.default_rng(0)
        embeds = engine.encode(np.ones((1, 77), np.int64))["prompt_embeds"]
        latents = numbers.standard_normal((1, 4, 8, 8)).astype(np.float32)
        predicted = engine.predict(latents, np.array([500], np.float32), prompt_embeds=embeds)
        return predicted.tobytes() + engine.decode(latents).tobytes()

    @property
    def files(self) -> list[Path]:
        return sorted((self.folder / "compiled").iterdir())


@pytest.fixture
def start(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    start = Start(bundle, tmp_path)

    def counting(call: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            calls.append(arguments)
            return call(*arguments, **named)

        return counted

    monkeypatch.setattr(openvino.Core, "compile_model", counting(openvino.Core.compile_model, start.compiled))
    monkeypatch.setattr(openvino.Core, "import_model", counting(openvino.Core.import_model, start.imported))
    return start


def test_the_second_start_compiles_nothing_and_draws_the_same_bytes(start: Start) -> None:
    first = start()
    assert (len(start.compiled), len(start.imported)) == (COMPONENTS, 0)
    assert start() == first
    assert (len(start.compiled), len(start.imported)) == (0, COMPONENTS)


def test_what_is_kept_has_no_weights_in_it(start: Start, bundle: Bundle) -> None:
    start()
    weights = sum(path.stat().st_size for name, path in bundle.files.items() if name.endswith(".bin"))
    graphs = sum(path.stat().st_size for name, path in bundle.files.items() if name.endswith(".xml"))
    assert (
        sum(path.stat().st_size for path in start.files) < graphs + weights / 2
    )  # much of so small a network is biases


@pytest.mark.parametrize("damage", ["flipped", "truncated", "swapped"])
def test_row_63_a_damaged_graph_is_never_deserialized(start: Start, damage: str) -> None:
    first = start()
    for path in start.files:
        body = path.read_bytes()
        damaged = {"flipped": body[:-1] + bytes([body[-1] ^ 1]), "truncated": body[:-1], "swapped": body[::-1]}
        path.write_bytes(damaged[damage])
    assert start() == first
    assert (len(start.compiled), len(start.imported)) == (COMPONENTS, 0)
    assert start() == first
    assert (len(start.compiled), len(start.imported)) == (0, COMPONENTS)


def test_row_63_graphs_in_a_folder_that_others_may_write_to_are_not_read(start: Start, tmp_path: Path) -> None:
    first = start()
    (tmp_path / "compiled").chmod(0o777)
    assert start() == first
    assert start.imported == []


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_row_64_a_graph_that_openvino_refuses_is_compiled_again(start: Start, content: bytes) -> None:
    first = start()
    for path in start.files:
        path.write_bytes(content + hashlib.sha256(content).digest())
    assert start() == first
    assert (len(start.imported), len(start.compiled)) == (COMPONENTS, COMPONENTS)
    assert start() == first
    assert start.compiled == []


def test_row_64_a_graph_for_other_threads_or_another_version_is_passed_over(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    start(threads=2)
    assert start.imported == []
    monkeypatch.setattr(openvino, "get_version", lambda: "another")
    start()
    assert start.imported == []


def test_row_69_a_full_disk_is_a_start_without_kept_graphs(tiny_store: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("full_disk_start.py")), str(tiny_store), str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    assert last == "True []"
    assert sum("compiled graph not kept" in line and "File too large" in line for line in said) == COMPONENTS
