"""What ONNX Runtime's GPU providers are told; every name is checked against the pinned library's own by a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
PROVIDERS = (TENSORRT, CUDA)
GRAPHS = 2  # UNet shapes that a runtime replays as CUDA graphs under TensorRT, unless told otherwise
_CAPTURE = {CUDA: "enable_cuda_graph", TENSORRT: "trt_cuda_graph_enable"}


def captures(options: Mapping[str, str]) -> bool:
    """Whether a target's runs are to be captured as CUDA graphs."""
    return options.get(_CAPTURE.get(options.get("provider", ""), "")) == "1"


def provider_options(
    provider: str, options: Mapping[str, str], graph: Path, memory_bytes: int | None = None, *, capture: bool = False
) -> dict[str, str]:
    """A GPU provider's options for one graph: the target's own, and what only this machine knows.

    `memory_bytes` is the most this session may take: its arena for CUDA, its workspace for TensorRT. Only with
    `capture` are runs captured, for a caller whose buffers keep their addresses.
    """
    left_out = ("provider",) if capture else ("provider", _CAPTURE[provider])
    given = {name: value for name, value in options.items() if name not in left_out}
    defaults = {"device_id": "0"}
    if provider == CUDA:
        defaults["arena_extend_strategy"] = "kSameAsRequested"  # the other one doubles, past what it was asked for
        if memory_bytes is not None:
            defaults["gpu_mem_limit"] = str(memory_bytes)
    if provider == TENSORRT:
        if memory_bytes is not None:
            defaults["trt_max_workspace_size"] = str(memory_bytes)
        if given.get("trt_weight_stripped_engine_enable") == "1":
            defaults["trt_onnx_model_folder_path"] = str(graph.parent)
    return {**defaults, **given}
