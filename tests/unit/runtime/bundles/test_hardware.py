"""Which target fits this machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from darkroom.bundles.manifest import Requirements
from darkroom.errors import EngineIncompatible
from darkroom.gpu import Gpu
from runtime.bundles.hardware import Machine, _cpu_features, choose_target, this_machine

BF16 = frozenset({"avx2", "avx512_bf16"})


@pytest.mark.parametrize(
    ("version", "features", "chosen"),
    [
        ("2026.4.1", BF16, "fast"),
        ("2026.4.0", BF16, "fast"),
        ("2026.4.1", frozenset({"avx2"}), "plain"),
    ],
)
def test_the_first_that_fits_is_taken(manifest, version, features, chosen) -> None:
    assert choose_target(manifest, Machine({"openvino": version}, features), None).target.name == chosen


def test_a_named_target_is_taken(manifest) -> None:
    assert choose_target(manifest, Machine({"openvino": "2026.4.1"}, BF16), "plain").target.name == "plain"


@pytest.mark.parametrize(
    ("machine", "wanted", "said"),
    [
        (Machine({}, BF16), None, "openvino is not installed"),
        (Machine({"openvino": "2026.3.0"}, BF16), None, "built for openvino 2026.4.1 and 2026.3.0 is installed"),
        (Machine({"openvino": "2026.4.1"}, frozenset()), "fast", "the processor lacks avx512_bf16"),
        (Machine({"openvino": "2026.4.1"}, BF16), "tensorrt", "no target tensorrt; it has fast, plain"),
    ],
)
def test_where_none_fits_it_says_why(manifest, machine, wanted, said) -> None:
    with pytest.raises(EngineIncompatible, match=said):
        choose_target(manifest, machine, wanted)


# ---- GPUs -----------------------------------------------------------------------------------------------------------

A10G = Gpu("NVIDIA A10G", "sm86", 24 << 30, "13.2")
GPU_MACHINE = Machine({"onnxruntime": "1.31.1", "openvino": "2026.4.1"}, frozenset(), A10G, {}, "10.16.1")
TENSORRT, CUDA = "TensorrtExecutionProvider", "CUDAExecutionProvider"


def gpu_target(manifest, name: str, provider: str, **requires):
    needs = {"library": "onnxruntime", "version": "1.31.1", "cuda": "13.0", **requires}
    return manifest.targets[1].model_copy(
        update={
            "name": name,
            "format": "onnxruntime",
            "options": {"provider": provider},
            "requires": Requirements.model_validate(needs),
        }
    )


@pytest.fixture
def gpu_manifest(manifest):
    """TensorRT for two architectures, CUDA for any, OpenVINO for a CPU."""
    targets = [
        gpu_target(manifest, "tensorrt-fp16-sm90", TENSORRT, tensorrt="10.16.1", gpu_architecture="sm90"),
        gpu_target(manifest, "tensorrt-fp16-sm86", TENSORRT, tensorrt="10.16.1", gpu_architecture="sm86"),
        gpu_target(manifest, "onnx-cuda-fp16", CUDA),
        manifest.targets[1],
    ]
    return manifest.model_copy(update={"targets": targets})


@pytest.mark.parametrize(
    ("change", "chosen", "preferred"),
    [
        ({}, "tensorrt-fp16-sm86", None),
        ({"gpu": replace(A10G, architecture="sm90")}, "tensorrt-fp16-sm90", None),
        ({"gpu": replace(A10G, architecture="sm80")}, "onnx-cuda-fp16", "tensorrt-fp16-sm90"),
        ({"tensorrt": "10.14.1"}, "onnx-cuda-fp16", "tensorrt-fp16-sm90"),
        ({"lacks": {TENSORRT: "libnvinfer.so.10 is missing"}}, "onnx-cuda-fp16", "tensorrt-fp16-sm90"),
        ({"lacks": {TENSORRT: "x", CUDA: "libcudnn.so.9 is missing"}}, "plain", "tensorrt-fp16-sm90"),
        ({"gpu": replace(A10G, cuda="12.8")}, "plain", "tensorrt-fp16-sm90"),
        ({"gpu": "there is no NVIDIA driver"}, "plain", "tensorrt-fp16-sm90"),
        ({"libraries": {"onnxruntime": "1.30.0", "openvino": "2026.4.1"}}, "plain", "tensorrt-fp16-sm90"),
    ],
)
def test_tensorrt_for_this_gpu_else_cuda_else_the_cpu(gpu_manifest, change, chosen, preferred) -> None:
    choice = choose_target(gpu_manifest, replace(GPU_MACHINE, **change), None)
    assert (choice.target.name, choice.preferred.name if choice.preferred else None) == (chosen, preferred)


def test_a_target_that_was_asked_for_is_no_fallback(gpu_manifest) -> None:
    assert choose_target(gpu_manifest, GPU_MACHINE, "plain").preferred is None


@pytest.mark.parametrize(
    ("target", "change", "said"),
    [
        ("onnx-cuda-fp16", {"gpu": "the driver sees no device"}, "it needs a GPU, and the driver sees no device"),
        ("tensorrt-fp16-sm90", {}, "it needs a GPU of architecture sm90, and this one is sm86"),
        ("onnx-cuda-fp16", {"gpu": replace(A10G, cuda="12.8")}, "a driver for CUDA 13.0, and this one runs 12.8"),
        ("tensorrt-fp16-sm86", {"tensorrt": "10.14.1"}, "built for TensorRT 10.16.1 and 10.14.1 is installed"),
    ],
)
def test_what_a_gpu_target_lacks_is_said(gpu_manifest, target, change, said) -> None:
    with pytest.raises(EngineIncompatible, match=said):
        choose_target(gpu_manifest, replace(GPU_MACHINE, **change), target)


def test_a_fraction_of_the_gpus_memory() -> None:
    assert GPU_MACHINE.gpu_bytes(0.25) == 6 << 30
    assert GPU_MACHINE.gpu_bytes(1.0) is None
    assert replace(GPU_MACHINE, gpu="there is none").gpu_bytes(0.25) is None


def test_this_machine_is_described_without_importing_an_engine() -> None:
    loaded = set(sys.modules)
    machine = this_machine()
    assert machine.libraries["openvino"].count(".") >= 1
    assert not {"openvino", "onnxruntime"} & (set(sys.modules) - loaded)


def test_features_are_those_of_the_first_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2\nprocessor : 1\nflags\t\t: fpu other\n")
    assert _cpu_features(cpuinfo) == {"fpu", "avx2"}
    assert _cpu_features(tmp_path / "absent") == frozenset()
