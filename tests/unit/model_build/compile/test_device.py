"""What a machine lacks for a GPU target, and what is compiled for the GPU that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.gpu import CUDA, TENSORRT, Gpu, NoGpu, wheel_facts
from model_build import BuildRefused
from model_build.compile.device import Device, compiled_for, lacks
from model_build.compile.targets import GPU_TARGETS, TARGETS, target_spec

GPU = Gpu("NVIDIA A10", "sm86", 24 << 30, "13.0")
DEVICE = Device(GPU, "1.31.1", "13.0", "10.16.1")


def none() -> Gpu:
    raise NoGpu("there is no NVIDIA driver (libcuda.so.1 is missing)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All the libraries of both providers, by name."""
    for library in {name for links in wheel_facts()["links"].values() for name in links}:
        (tmp_path / library).touch()
    return tmp_path


@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
def test_nothing_is_missing(folder: Path, provider: str) -> None:
    assert lacks(provider, lambda: GPU, lambda: wheel_facts()["version"], [folder]) == []


def test_all_that_is_missing_is_told_at_once(folder: Path) -> None:
    (folder / "libnvinfer.so.10").rename(folder / "libnvinfer.so.11")
    found = [lack.what for lack in lacks(TENSORRT, none, lambda: None, [folder])]
    assert found == [
        "there is no NVIDIA driver (libcuda.so.1 is missing)",
        f"onnxruntime-gpu is not installed; {wheel_facts()['version']} is needed",
        "libnvinfer.so.10 is missing (libnvinfer.so.11 is of the wrong version)",
    ]


def test_an_old_driver_and_another_version(folder: Path) -> None:
    old = Gpu("NVIDIA A10", "sm86", 24 << 30, "12.4")
    assert [lack.what for lack in lacks(CUDA, lambda: old, lambda: "1.20.0", [folder])] == [
        f"the driver runs CUDA 12.4 and {wheel_facts()['cuda']} is needed",
        f"onnxruntime-gpu is 1.20.0; {wheel_facts()['version']} is needed",
    ]


def test_a_tensorrt_target_is_called_by_its_architecture() -> None:
    assert compiled_for(DEVICE, target_spec("tensorrt-fp16"), stripped=False).name == "tensorrt-fp16-sm86"
    assert compiled_for(DEVICE, target_spec("tensorrt-fp16-sm86"), stripped=False).name == "tensorrt-fp16-sm86"
    assert compiled_for(DEVICE, target_spec("tensorrt-int8"), stripped=False).name == "tensorrt-int8-sm86"
    assert compiled_for(DEVICE, target_spec("onnx-cuda-fp16"), stripped=False) == GPU_TARGETS["onnx-cuda-fp16"]
    assert compiled_for(None, target_spec("onnx-cpu"), stripped=True) == TARGETS["onnx-cpu"]


def test_engines_for_another_gpu_are_refused() -> None:
    with pytest.raises(BuildRefused, match=r"^tensorrt-fp16-sm90 is compiled on a GPU of that architecture, and this"):
        compiled_for(DEVICE, target_spec("tensorrt-fp16-sm90"), stripped=False)


@pytest.mark.parametrize("name", ["onnx-cuda-fp16-sm86", "tensorrt-fp16-86", "openvino-fp32-sm86"])
def test_only_tensorrt_targets_name_an_architecture(name: str) -> None:
    with pytest.raises(BuildRefused, match=r"^There is no target "):
        target_spec(name)
