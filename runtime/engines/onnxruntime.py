"""ONNX Runtime: one session per component; the target's options choose the provider."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from runtime.arrays import Floats, Ids
from runtime.engines import Graph

_PROVIDER = "provider"
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "failed to allocate")


class OnnxGraph:
    """One session over one ONNX file."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> Floats:
        return self.outputs(inputs)[self._names[0]]

    def outputs(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        try:
            results = self._session.run(self._names, dict(inputs))
        except Exception as failure:  # the binding's exceptions share no public base
            if any(phrase in str(failure).lower() for phrase in _OUT_OF_MEMORY):
                raise MemoryError from failure
            raise
        return {name: np.asarray(result, np.float32) for name, result in zip(self._names, results, strict=True)}


def load_graphs(components: Mapping[str, Path], options: Mapping[str, str], threads: int) -> dict[str, Graph]:
    """Open each component's ONNX file, side by side.

    `options` holds the execution provider's name under `provider` (default: the CPU's) and that provider's own options.
    """
    provider = options.get(_PROVIDER, "CPUExecutionProvider")
    provider_options = {name: value for name, value in options.items() if name != _PROVIDER}
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3

    def load(path: Path) -> Graph:
        providers = [(provider, provider_options)]
        return OnnxGraph(onnxruntime.InferenceSession(str(path), settings, providers=providers))

    with ThreadPoolExecutor(len(components)) as pool:
        return dict(zip(components, pool.map(load, components.values()), strict=True))
