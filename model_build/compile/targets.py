"""Targets: the registry of what can be built, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from darkroom.gpu import CUDA, PROVIDERS, TENSORRT
from model_build import BuildRefused
from model_build.compile import Format


@dataclass(frozen=True)
class TargetSpec:
    """What a target name stands for.

    `psnr_floor` is the least agreement with diffusers, in dB, that verify lets through. `half`: its networks are
    in float16, as ONNX, but for what is in int8. `fused`: their GroupNorm, GELU and attention become single kernels.
    `own`: its engines are shared with no other target, and bear fingerprints. `architecture`: the only one of GPUs it
    may be compiled for.
    """

    name: str
    format: Format
    precision: Literal["fp32", "bf16", "fp16", "int8"]
    psnr_floor: float
    cpu_features: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    half: bool = False
    fused: bool = False
    own: bool = False
    architecture: str = ""

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider; empty: its default, the CPU's, or another library."""
        return self.options.get("provider", "")

    @property
    def needs_gpu(self) -> bool:
        return self.provider in PROVIDERS

    @property
    def engines(self) -> str:
        """The set of engine files it opens, their folder in the bundle; targets that differ in options share one."""
        if self.own:
            return self.name
        return INT8_ENGINES if self.precision == "int8" else self.format


INT8_ENGINES = "openvino-int8"

# What int8 leaves in floating point OpenVINO computes in bf16 where the processor has it, unless told otherwise.
# bf16 keeps 8 bits of mantissa and errors add up over steps: its floor asks for the same picture, not the same bits.
_TARGETS = (
    TargetSpec("openvino-int8", "openvino", "int8", 18.0, ("avx512_vnni",)),
    TargetSpec("openvino-bf16", "openvino", "bf16", 20.0, ("avx512_bf16",), {"INFERENCE_PRECISION_HINT": "bf16"}),
    TargetSpec("openvino-fp32", "openvino", "fp32", 40.0, options={"INFERENCE_PRECISION_HINT": "f32"}),
    TargetSpec("onnx-cpu", "onnxruntime", "fp32", 40.0),
)
_own = partial(TargetSpec, format="onnxruntime", own=True)
_IN_TENSORRT = {"provider": TENSORRT, "trt_cuda_graph_enable": "1"}
_IN_CUDA = {"provider": CUDA, "enable_cuda_graph": "1"}
_FP16, _BF16, _INT8 = {"trt_fp16_enable": "1"}, {"trt_bf16_enable": "1"}, {"trt_int8_enable": "1"}
# What GPU targets go through, on a CPU: slow, and for tests and doctor's rehearsal only.
_REHEARSALS = (
    _own("onnx-cpu-fp16", precision="fp16", psnr_floor=25.0, half=True),
    _own("onnx-cpu-int8", precision="int8", psnr_floor=18.0, half=True),
)
# TensorRT is given unfused graphs: it fuses better than we do. In bf16 it is given float32, since ONNX has no
# convolution in bfloat16 before opset 22. The UNet in int8 by pairs in its graph, what surrounds them and all else in
# float16: both flags allow it, no more.
_GPU_TARGETS = (
    _own("tensorrt-fp16", precision="fp16", psnr_floor=25.0, options={**_IN_TENSORRT, **_FP16}, half=True),
    _own("tensorrt-bf16", precision="bf16", psnr_floor=20.0, options={**_IN_TENSORRT, **_BF16}),
    _own("tensorrt-int8", precision="int8", psnr_floor=18.0, options={**_IN_TENSORRT, **_FP16, **_INT8}, half=True),
    _own("onnx-cuda-fp16", precision="fp16", psnr_floor=25.0, options=_IN_CUDA, half=True, fused=True),
    # The same without our fusion: to measure it by, and to fall back on.
    _own("onnx-cuda-fp16-plain", precision="fp16", psnr_floor=25.0, options=_IN_CUDA, half=True),
)
TARGETS = {target.name: target for target in _TARGETS}  # any machine can build them, and does unless told otherwise
GPU_TARGETS = {target.name: target for target in (*_GPU_TARGETS, *_REHEARSALS)}


def target_spec(name: str) -> TargetSpec:
    """Raises BuildRefused for a name that is not in the registry.

    A TensorRT target's name may end in the architecture it is compiled for, as it does in the manifest.
    """
    known = {**GPU_TARGETS, **TARGETS}
    stem, _, suffix = name.rpartition("-")
    if name not in known and re.fullmatch(r"sm\d+", suffix) and stem in known and known[stem].provider == TENSORRT:
        return replace(known[stem], architecture=suffix)
    if name not in known:
        raise BuildRefused(f"There is no target {name}; use {', '.join(known)}.")
    return known[name]
