"""What a person sees who asks for what cannot be built: one sentence, exit code 1, nothing written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_build.__main__ import app
from model_build.compile.device import Lack
from model_build.compile.targets import GPU_TARGETS, TARGETS


def build(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["build", *arguments])
    return result.exit_code, " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "tensorrt"], f"There is no target tensorrt; use {', '.join({**GPU_TARGETS, **TARGETS})}."),
        (["--name", "../up"], "../up is no model name: use letters, digits, dots, dashes and underscores."),
        (["--prompts", "none.txt"], "There is no file none.txt with prompts."),
        (["--controlnet", "canny"], "--controlnet canny: write TYPE=FOLDER, as in canny=path/to/controlnet."),
        (["--controlnet", "a=b", "--controlnet", "a=c"], "--controlnet: a is given twice."),
        (["--store", "ftp://host/x"], "--store: no object store for ftp://; use one of file, s3."),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    given = ["--name", "x", "--store", f"file://{tmp_path}/store", "--work", str(tmp_path / "work"), *arguments]
    code, said = build(str(tmp_path / "no-checkpoint"), *given)
    assert code == 1
    assert said == sentence


@pytest.mark.parametrize(
    "target", ["tensorrt-fp16", "tensorrt-fp16-sm86", "tensorrt-bf16", "tensorrt-int8-sm86", "onnx-cuda-fp16"]
)
def test_a_gpu_target_without_the_gpu_is_refused_before_any_work(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr("model_build.compile.device.lacks", lambda _: [Lack("there is no NVIDIA driver", "get one")])
    store, work = tmp_path / "store", tmp_path / "work"
    given = ["--name", "x", "--store", f"file://{store}", "--work", str(work), "--target", target]
    code, said = build(str(tiny_checkpoint), *given)
    assert code == 1
    assert said == (
        f"{target.removesuffix('-sm86')} is compiled on the GPU that will run it, and here there is no NVIDIA driver; "
        "`python -m model_build doctor` lists all that is missing."
    )
    assert not work.exists()
    assert not any(path.is_file() for path in store.rglob("*"))


def test_a_pickle(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    store = tmp_path / "store"
    code, said = build(str(folder), "--name", "x", "--store", f"file://{store}", "--work", str(tmp_path / "work"))
    assert code == 1
    assert said == (
        "unet/diffusion_pytorch_model.bin is a pickle, which can run any code when it is opened; "
        "convert it to safetensors (save_pretrained with safe_serialization=True) and build that."
    )
    assert not any(path.is_file() for path in store.rglob("*"))


def test_a_store_that_cannot_be_written(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = build(
        *(str(tiny_checkpoint), "--name", "x", "--work", str(tmp_path / "work")),
        *("--store", f"file://{tmp_path}/file/store"),
    )
    assert code == 1
    assert said.count(".") <= 2
    assert "Traceback" not in said


def test_a_work_folder_that_cannot_be_written(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = build(
        *(str(tiny_checkpoint), "--name", "x", "--work", str(tmp_path / "file")),
        *("--store", f"file://{tmp_path}/store"),
    )
    assert code == 1
    assert said == f"{tmp_path}/file/x: Not a directory."


def test_importing_the_command_line_loads_no_torch() -> None:
    code = (
        "import sys, model_build.__main__; print({'torch', 'diffusers', 'openvino', 'onnxruntime'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "set()"
