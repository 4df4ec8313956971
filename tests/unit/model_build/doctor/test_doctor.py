"""What doctor says: all that is missing at once; and what it does where nothing is, with the CPU in the GPU's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from darkroom.gpu import CUDA, TENSORRT
from model_build.__main__ import app
from model_build.compile.device import Lack
from model_build.doctor import examination


def doctor(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    return result.exit_code, result.stdout


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Lack]]:
    """What this machine seems to lack."""
    libraries = Lack("libcudnn.so.9 is missing", "pip install '.[gpu]'")
    missing = {
        CUDA: [Lack("there is no NVIDIA driver", "take another machine"), libraries],
        TENSORRT: [
            Lack("there is no NVIDIA driver", "take another machine"),
            libraries,
            Lack("libnvinfer.so.10 is missing", "pip install '.[gpu]'"),
        ],
    }
    monkeypatch.setattr(examination, "lacks", lambda provider: missing[provider])
    return missing


def test_all_that_is_missing_and_nothing_built(
    without: dict[str, list[Lack]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code, said = doctor("--report", "report.json")
    assert code == 1
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "there is no NVIDIA driver both targets take another machine" in lines
    assert "libcudnn.so.9 is missing both targets pip install '.[gpu]'" in lines, "brackets are no markup"
    assert "libnvinfer.so.10 is missing tensorrt-fp16" in lines, "a remedy is said once"
    assert lines[-1] == "Nothing was built; call doctor again when this is done."
    report = json.loads((tmp_path / "report.json").read_text())
    assert [failure["what"] for failure in report["failures"]] == [
        *("there is no NVIDIA driver", "libcudnn.so.9 is missing", "libnvinfer.so.10 is missing")
    ]
    assert report["engines"] == []
    assert {path.name for path in tmp_path.iterdir()} == {"report.json"}


def test_what_fails_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code, said = doctor("--device", "cpu", "--no-crayon", str(tmp_path / "none"))
    assert code == 1
    assert (
        f"There is no folder {tmp_path}/none." in "".join(said.split("\n")).replace("  ", "") or "There is no" in said
    )
    assert "Something is wrong, see above." in said
    assert not list(tmp_path.glob("darkroom-*"))
