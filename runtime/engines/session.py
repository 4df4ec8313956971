"""ONNX Runtime sessions: what a provider is told, and what its failures mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from darkroom.errors import EngineIncompatible

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "failed to allocate")
_ACTIVATIONS = {"unet": 0.6, "vae_decoder": 0.3}  # of what the weights leave: the shares of those who need most
_OTHERS = 0.1


def raised(failure: Exception) -> Exception:
    """MemoryError where memory ran out, else the failure itself: the binding's exceptions share no public base."""
    return MemoryError() if any(phrase in str(failure).lower() for phrase in _OUT_OF_MEMORY) else failure


def provider_options(
    provider: str, options: Mapping[str, str], graph: Path, memory_bytes: int | None
) -> dict[str, str]:
    """A GPU provider's options for one graph: the target's own, and what only this machine knows.

    `memory_bytes` is the most this session may take: its arena for CUDA, its workspace for TensorRT.
    """
    told = {name: value for name, value in options.items() if name != "provider"}
    found = {"device_id": "0"}
    if provider == CUDA:
        found["arena_extend_strategy"] = "kSameAsRequested"  # the other one doubles, past what it was asked for
        if memory_bytes is not None:
            found["gpu_mem_limit"] = str(memory_bytes)
    if provider == TENSORRT:
        if memory_bytes is not None:
            found["trt_max_workspace_size"] = str(memory_bytes)
        if told.get("trt_weight_stripped_engine_enable") == "1":
            found["trt_onnx_model_folder_path"] = str(graph.parent)
    return {**found, **told}


def memory_shares(weights: Mapping[str, int], limit: int) -> dict[str, int]:
    """`limit` bytes divided among components: to each its weights, and a fixed share of what is left.

    Every session has an arena of its own, so a limit for the process is the sum of theirs. Raises: EngineIncompatible.
    """
    left = limit - sum(weights.values())
    if left <= 0:
        needed, given = (size / 2**30 for size in (sum(weights.values()), limit))
        raise EngineIncompatible(
            f"The weights take {needed:.1f} GiB and this process may take {given:.1f} GiB of the GPU; "
            "raise RUNTIME_GPU_MEMORY_FRACTION."
        )
    others = [name for name in weights if name not in _ACTIVATIONS]
    shares = {name: _ACTIVATIONS.get(name) or _OTHERS / len(others) for name in weights}
    return {name: size + int(left * shares[name]) for name, size in weights.items()}
