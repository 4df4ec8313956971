"""What building a bundle costs is kept beside it, also of a build that was broken off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.subjects import bundles
from benchmarks.subjects.bundles import Cost


def test_a_command_tells_its_status_and_its_memory() -> None:
    status, small = bundles._run([sys.executable, "-c", "raise SystemExit(2)"])
    assert status == 2
    more = small.peak + 100_000_000
    _, large = bundles._run([sys.executable, "-c", f"b'x' * {more}"])
    assert large.peak > more
    assert large.seconds > 0


def test_costs_of_a_build_that_was_broken_off_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([(1, Cost(5.0, 3000)), (0, Cost(2.0, 2000))])
    monkeypatch.setattr(bundles, "_run", lambda _: next(runs))
    with pytest.raises(subprocess.CalledProcessError):
        bundles.build(tmp_path, tmp_path, "small", [])
    bundles.build(tmp_path, tmp_path, "small", [])
    assert Cost.of("small", tmp_path) == Cost(7.0, 3000)
    assert Cost.of("older", tmp_path) == Cost()


def test_stages_of_a_bundle_that_is_alike_are_taken_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_run", lambda _: (0, Cost()))
    stage = tmp_path / "build" / "plain" / "export" / "unet.onnx"
    stage.parent.mkdir(parents=True)
    stage.write_text("plain")
    bundles.build(tmp_path, tmp_path, "merged", [], like="plain")
    taken = tmp_path / "build" / "merged" / "export" / "unet.onnx"
    assert taken.samefile(stage)
    taken.unlink()
    bundles.build(tmp_path, tmp_path, "merged", [], like="plain")
    assert not taken.exists(), "it has stages of its own by now"
