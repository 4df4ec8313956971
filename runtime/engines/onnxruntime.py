"""ONNX Runtime: one session per component; the target's options choose the provider."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from darkroom import gpu
from darkroom.errors import EngineIncompatible
from runtime.arrays import Floats, Ids
from runtime.engines import Graph
from runtime.engines.bound import BoundGraph
from runtime.engines.captured import PerShapeGraph
from runtime.engines.session import Bounds, raised

_CPU = "CPUExecutionProvider"
_NONE = Bounds()
_DEVICE = "cuda"  # where a GPU provider's buffers are; tests exercise the rest on `cpu`


class OnnxGraph:
    """One session over one ONNX file."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        try:
            results = self._session.run(self._names, dict(inputs))
        except Exception as failure:
            raise raised(failure) from failure
        return {name: np.asarray(result, np.float32) for name, result in zip(self._names, results, strict=True)}


def load_graphs(
    components: Mapping[str, Path], options: Mapping[str, str], threads: int, bounds: Bounds = _NONE
) -> dict[str, Graph]:
    """Open each component's ONNX file, on a CPU side by side.

    `options` holds the execution provider's name under `provider` (default: the CPU's) and that provider's own options;
    `bounds` is for a GPU's.

    Raises: EngineIncompatible where the provider does not start.
    """
    provider = options.get("provider", _CPU)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    if provider in gpu.PROVIDERS:
        return _on_gpu(provider, components, options, settings, bounds)
    # Threads that spin while they wait take the time of those that work, where a replica has fewer cores than threads.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider_options = {name: value for name, value in options.items() if name != "provider"}

    def load(path: Path) -> Graph:
        return OnnxGraph(open_session(path, settings, provider, provider_options))

    with ThreadPoolExecutor(len(components)) as pool:
        return dict(zip(components, pool.map(load, components.values()), strict=True))


def open_session(
    path: Path, settings: onnxruntime.SessionOptions, provider: str, options: Mapping[str, str]
) -> onnxruntime.InferenceSession:
    """A session that runs on this provider. Raises: EngineIncompatible where ONNX Runtime would use another."""
    if provider not in onnxruntime.get_available_providers():
        raise EngineIncompatible(f"This ONNX Runtime has no {provider}.")
    session = onnxruntime.InferenceSession(str(path), settings, providers=[(provider, dict(options))])
    if session.get_providers()[0] != provider:
        raise EngineIncompatible(f"{provider} does not start; `python -m model_build doctor` says what it lacks.")
    return session


def _on_gpu(
    provider: str,
    components: Mapping[str, Path],
    options: Mapping[str, str],
    settings: onnxruntime.SessionOptions,
    bounds: Bounds,
) -> dict[str, Graph]:
    gpu.preload(provider, gpu.search_folders())
    capture = gpu.captures(options)

    def opened(name: str, path: Path, capture: bool) -> onnxruntime.InferenceSession:
        provider_options = gpu.provider_options(provider, options, path, bounds.shares.get(name), capture=capture)
        return open_session(path, settings, provider, provider_options)

    def load(name: str, path: Path) -> Graph:
        if provider == gpu.TENSORRT and name == "unet" and capture:
            open_unet = partial(opened, name, path)
            return PerShapeGraph(open_unet, _DEVICE, sessions=bounds.graphs, most_rows=bounds.most_rows)
        numbered = capture and provider == gpu.CUDA  # a graph for each shape, all in one session
        return BoundGraph(opened(name, path, numbered), _DEVICE, capture=numbered, fill=numbered and name == "unet")

    return {name: load(name, path) for name, path in components.items()}
