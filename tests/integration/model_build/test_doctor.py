"""Doctor's whole visit, with the CPU's provider in the GPU's place: all but CUDA's own part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_build.__main__ import app


@pytest.mark.costly("model_build/**/*", "layers/shared/darkroom/gpu/*.json")
def test_a_rehearsal(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    report = tmp_path / "report.json"
    arguments = ["--device", "cpu", "--no-crayon", "--baseline", "fp32", "--steps", "2", "--repeats", "1"]
    result = CliRunner().invoke(app, ["doctor", str(tiny_checkpoint), *arguments, "--report", str(report)])
    assert result.exit_code == 0, result.output
    assert "All is well." in result.stdout
    for said in ("hardware: ", "software: torch ", "baseline time", "optimised time", "speed-up", "diffusers fp32"):
        assert said in result.stdout
    found = json.loads(report.read_text())
    (row,) = found["engines"]
    assert (row["target"], found["failures"]) == ("onnx-cpu-fp16", [])
    assert row["psnr"] >= 25
    times = row["baselines"]["fp32"]
    assert times["speed_up"] == pytest.approx(times["baseline_ms"] / times["optimised_ms"], rel=0.05)
    assert not list((tmp_path / "work").glob("darkroom-*")), "nothing it builds stays"
