"""A UNet in int8 for TensorRT: compiled, published, verified and loaded, with the CPU's provider in its place."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from rich.console import Console

from darkroom.bundles import catalog
from darkroom.gpu import Gpu
from darkroom.storage.directory import DirectoryStore
from model_build import BuildRefused
from model_build.build import Build
from model_build.compile.device import Device
from model_build.layout import COMPONENTS
from model_build.plan import Plan
from model_build.progress import BuildProgress
from runtime.bundles.bundle import fetch_bundle, load_bundle
from runtime.bundles.hardware import Machine
from tests.quantized import quantized_layers

TARGET = "onnx-cpu-int8"


@pytest.fixture
def work(tiny_store: Path, tiny_work: Path, tmp_path: Path) -> Path:
    """Where the stages of the tiny bundle are finished, recorded calls among them."""
    assert tiny_store.exists()
    return shutil.copytree(tiny_work / "tiny", tmp_path / "work" / "tiny").parent


def test_a_bundle_in_int8_for_a_gpu(tiny_checkpoint: Path, work: Path, tmp_path: Path) -> None:
    store, told = DirectoryStore(tmp_path / "store"), Console(file=io.StringIO(), width=100)
    plan = Plan(str(tiny_checkpoint), "tiny", [TARGET], work, verify_steps=4, repeats=0)
    made, report = Build(plan, store, BuildProgress(told)).run()
    (target,) = made.targets
    assert (target.name, target.precision) == (TARGET, "int8")
    assert [mark.component for mark in target.fingerprints] == list(COMPONENTS)
    assert {mark.precision for mark in target.fingerprints} == {"int8"}
    assert all(path.startswith(f"{TARGET}/") for path in target.files), "what it was calibrated on is not published"
    (checked,) = report["targets"]
    assert checked["psnr_floor"] == 18
    assert 18 <= min(value for name, value in checked["psnr"].items() if name.startswith("image/")) < 100
    assert checked["quantization"].keys() == {"unet"}
    left_out = {name for layer in checked["quantization"]["unet"]["left_out"] for name in layer["layers"]}
    assert "unet.conv_in" in left_out
    path = tmp_path / "store" / catalog.bundle_key("tiny", made.version, target.components["unet"])
    layers = quantized_layers(path)
    assert len(layers) > 4 * len(left_out)
    lines = told.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any(line.startswith("calibrate") and line.endswith("unchanged, skipped") for line in lines)
    machine = Machine({"onnxruntime": onnxruntime.__version__}, frozenset())
    bundle = fetch_bundle(store, "tiny", None, None, machine, tmp_path / "cache")
    assert bundle.target.name == TARGET, "what was built is what is chosen"
    engine = load_bundle(bundle, threads=1).engine
    assert engine.encode(np.zeros((1, 77), np.int64))["prompt_embeds"].shape == (1, 77, 32)
    assert json.loads(store.get(catalog.bundle_key("tiny", made.version, "report.json"))) == report


@pytest.mark.parametrize(("target", "graphs"), [("tensorrt-int8", 3), ("tensorrt-fp16", 3), ("onnx-cuda-fp16", 0)])
def test_memory_is_reckoned_before_calibration_and_with_the_cuda_graphs(
    tiny_checkpoint: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, graphs: int
) -> None:
    """TensorRT opens a session for each graph, which has weights of its own; CUDA's provider numbers them in one."""

    def refuse(name: str, needs: object, memory: int, device: str, call: str, replayed: int) -> None:
        assert (memory, device, replayed) == (24 << 30, "NVIDIA A10", graphs)
        raise BuildRefused(f"{name} does not fit")

    shutil.rmtree(work / "tiny" / "calibrate")
    monkeypatch.setattr("model_build.compile.preflight.refuse_what_does_not_fit", refuse)
    device = Device(Gpu("NVIDIA A10", "sm86", 24 << 30, "13.0"), "1.31.1", "13.0", "10.16.1")
    plan = Plan(str(tiny_checkpoint), "tiny", [target], work, graphs=3)
    name = f"{target}-sm86" if target.startswith("tensorrt") else target
    with pytest.raises(BuildRefused, match=f"^{name} does not fit$"):
        Build(plan, DirectoryStore(tmp_path / "store"), BuildProgress(Console(file=io.StringIO())), device).run()
    assert not (work / "tiny" / "calibrate").exists()
