"""Compiled graphs on disk: whole or not at all, for whom they were made, within their budget, never an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.engines.compiled import CompiledGraphs

GRAPH = bytes(range(256)) * 4
BUDGET = 3 * len(GRAPH) + 2 * 32 + 14  # two graphs and as much again as one without its SHA-256


def kept(folder: Path, budget: int = 1 << 20, made_for: tuple[str, ...] = ("version", "processor")) -> CompiledGraphs:
    return CompiledGraphs(folder, budget, made_for)


def test_what_one_start_wrote_the_next_one_reads(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "compiled"
    kept(folder).write("unet.graph", GRAPH)
    assert kept(folder).read("unet.graph") == GRAPH
    assert kept(folder).read("vae_decoder.graph") is None
    assert [path.name for path in folder.iterdir()] == ["unet.graph"]


def test_a_name_tells_apart_all_that_matters() -> None:
    here = kept(Path())
    names = [
        here.name("unet", "2026.4.1", {"INFERENCE_NUM_THREADS": "2"}),
        here.name("vae_decoder", "2026.4.1", {"INFERENCE_NUM_THREADS": "2"}),
        here.name("unet", "2026.4.2", {"INFERENCE_NUM_THREADS": "2"}),
        here.name("unet", "2026.4.1", {"INFERENCE_NUM_THREADS": "8"}),
        here.name("unet", "2026.4.1", {"INFERENCE_NUM_THREADS": "2", "INFERENCE_PRECISION_HINT": "bf16"}),
        kept(Path(), made_for=("version", "another")).name("unet", "2026.4.1", {"INFERENCE_NUM_THREADS": "2"}),
        kept(Path(), made_for=("another", "processor")).name("unet", "2026.4.1", {"INFERENCE_NUM_THREADS": "2"}),
    ]
    assert len(set(names)) == len(names)
    assert kept(Path()).name("unet", "2026.4.1", {"INFERENCE_NUM_THREADS": "2"}) == names[0]


@pytest.mark.parametrize("damage", [b"", GRAPH[:8], GRAPH + b"\0" * 32])
def test_a_damaged_graph_is_not_given_out_and_is_removed(tmp_path: Path, damage: bytes) -> None:
    here = kept(tmp_path)
    here.write("unet.graph", GRAPH)
    (tmp_path / "unet.graph").write_bytes(damage)
    assert here.read("unet.graph") is None
    assert list(tmp_path.iterdir()) == []


def test_one_bit_is_damage(tmp_path: Path) -> None:
    here = kept(tmp_path)
    here.write("unet.graph", GRAPH)
    content = bytearray((tmp_path / "unet.graph").read_bytes())
    content[-1] ^= 1
    (tmp_path / "unet.graph").write_bytes(content)
    assert here.read("unet.graph") is None


def test_the_longest_unused_leave_first(tmp_path: Path) -> None:
    here = kept(tmp_path, budget=BUDGET)
    (tmp_path / "killed.partial").write_bytes(GRAPH)
    here.write("first.graph", GRAPH)
    here.write("second.graph", GRAPH)
    for second, name in enumerate(("killed.partial", "first.graph", "second.graph")):
        os.utime(tmp_path / name, (second, second))
    assert here.read("first.graph") is not None  # used now
    here.write("third.graph", GRAPH)
    assert {path.name for path in tmp_path.iterdir()} == {"first.graph", "third.graph"}


def test_a_graph_larger_than_the_budget_is_not_kept_and_drives_out_no_other(tmp_path: Path) -> None:
    here = kept(tmp_path, budget=len(GRAPH))  # with its SHA-256 it is larger
    here.write("vae_decoder.graph", GRAPH[:50])
    here.write("unet.graph", GRAPH)
    assert [path.name for path in tmp_path.iterdir()] == ["vae_decoder.graph"]


def test_a_graph_stays_readable_when_its_file_leaves(tmp_path: Path) -> None:
    here = kept(tmp_path)
    here.write("unet.graph", GRAPH)
    graph = here.read("unet.graph")
    here.remove("unet.graph")
    assert graph == GRAPH


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    kept(tmp_path).write("unet.graph", GRAPH)
    tmp_path.chmod(0o777)
    here = kept(tmp_path)
    assert here.read("unet.graph") is None
    here.write("other.graph", GRAPH)
    assert [path.name for path in tmp_path.iterdir()] == ["unet.graph"]


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path).write("unet.graph", GRAPH)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert kept(tmp_path).read("unet.graph") is None


def test_where_no_folder_can_be_made_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    here = kept(tmp_path / "file" / "compiled")
    here.write("unet.graph", GRAPH)
    assert here.read("unet.graph") is None


def test_a_folder_that_vanishes_is_no_error(tmp_path: Path) -> None:
    here = kept(tmp_path / "compiled")
    (tmp_path / "compiled").rmdir()
    here.write("unet.graph", GRAPH)
    assert here.read("unet.graph") is None
