"""The rows of Stable Diffusion 1.5 on a processor, from made-up readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.engines import cpu
from benchmarks.engines.cpu import BF16, DIFFUSERS, MERGED
from benchmarks.peers.sides import Image, SideResult
from benchmarks.sizes import environment
from benchmarks.subjects import engine
from darkroom.bundles.catalog import load_manifest
from darkroom.storage import open_store
from runtime.bundles.bundle import fetch_bundle
from runtime.bundles.hardware import this_machine


def _found(name: str, step: float, rest: float, peak: float) -> SideResult:
    wall = [step] * 20 + [rest]
    return SideResult(
        name, 1.0, 2.0, int(peak * 1e9), [Image(wall, [2 * seconds for seconds in wall], 0.992 * sum(wall))]
    )


def test_each_goal_is_measured_against_its_peer_and_what_died_is_left_out() -> None:
    measured = {
        "torch": {
            DIFFUSERS: _found(DIFFUSERS, 30.0, 50.0, 5.0),
            BF16: _found(BF16, 10.0, 10.0, 3.0),
            MERGED: _found(MERGED, 2.0, 10.0, 1.1),
        },
        "int8": {"int8": _found("int8", 3.0, 10.0, 1.0), MERGED: _found(MERGED, 2.0, 10.0, 1.1)},
        "f32": {"f32": _found("f32", 9.0, 15.0, 4.0), "int8": _found("int8", 3.0, 20.0, 1.5)},
        "bf16": {},
    }
    rows = {row.metric: row for row in cpu._compared(measured)}
    against = rows[f"an image of 20 steps, {DIFFUSERS} / {MERGED}"]
    assert (against.measured, against.goal, against.met) == (13.0, ">= 12", True)
    assert rows[f"an image of 20 steps, {BF16} / {MERGED}"].met is False
    memory = rows[f"peak memory, {MERGED} / {DIFFUSERS}"]
    assert (memory.measured, memory.goal, memory.met) == (0.22, "<= 0.2", False)
    assert rows["a guided UNet step, f32 / int8"].measured == 3.0
    assert rows[f"a guided UNet step, int8 / {MERGED}"].met is True
    outside = rows[f"share of an image that is no engine call, {MERGED}"]
    assert (outside.measured, outside.goal, outside.met) == (0.8, "<= 1", True)
    assert rows["peak memory, int8"].measured == 1.0, "as beside its peers, not as in a later group"
    assert not any("compile" in metric or "genai" in metric for metric in rows)


def test_starts_are_shares_of_the_peers() -> None:
    starts = {("int8", "warm"): 10.0, (DIFFUSERS, "warm"): 80.0, ("int8", "cold"): 20.0, (DIFFUSERS, "cold"): 90.0}
    assert [(row.measured, row.met) for row in cpu._started(starts)] == [(0.125, True), (0.222, False)]
    del starts[DIFFUSERS, "warm"]
    assert [row.measured for row in cpu._started(starts)] == [0.222], "one that died is left out"


def test_a_bundles_size_is_what_a_replica_of_its_target_fetches(tmp_path: Path) -> None:
    manifest = load_manifest(open_store(str(engine.BUNDLE)), "crayon", None)
    target = next(target for target in manifest.targets if target.name == "openvino-bf16")
    fetched = fetch_bundle(open_store(str(engine.BUNDLE)), "crayon", None, target.name, this_machine(), tmp_path)
    assert cpu._fetched_bytes(manifest, target.name) == sum(path.stat().st_size for path in fetched.files.values())


def test_an_environments_size_counts_what_is_needed_once() -> None:
    alone = environment.megabytes(["numpy"])
    assert 20 < alone < 200
    assert environment.megabytes(["numpy", "NumPy"]) == alone
    assert environment.megabytes(["openvino"]) > alone, "which needs numpy"
    with pytest.raises(environment.PackageNotFoundError):
        environment.megabytes(["no-such-distribution"])
    with pytest.raises(ValueError, match="numpy as installed here has no extra gpu"):
        environment.megabytes(["numpy[gpu]"])


def test_an_environments_size_leaves_out_what_is_deleted() -> None:
    whole, numpy = environment.megabytes(["openvino"]), environment.megabytes(["numpy"])
    slim = environment.megabytes(["openvino"], without=["openvino/libs/*plugin.so"])
    assert numpy < slim < whole


def test_a_disk_that_is_too_small_is_told_before_an_hour_is_spent(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cpu, "_ROOM", 1 << 70)
    with pytest.raises(SystemExit, match=r"takes .* GB of disk once, and .* are free: make room first"):
        cpu.check_room(tmp_path)
    monkeypatch.setattr(cpu, "_ROOM", 0)
    cpu.check_room(tmp_path)
