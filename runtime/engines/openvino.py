"""OpenVINO on the CPU: one compiled model and one reused infer request per component."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino

from runtime.arrays import Floats, Ids
from runtime.engines import Graph

# What OpenVINO and oneDNN say when an allocation fails; the Python binding keeps only the text.
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "failed to allocate", "could not allocate")


class OpenVinoGraph:
    """One compiled network and its infer request, which keeps its working memory between calls."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        # Bundles of before ControlNets were compiled without output names; their graphs have one output of interest.
        self._names = [min(output.get_names(), default=f"{place}") for place, output in enumerate(compiled.outputs)]

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> Floats:
        return self.outputs(inputs)[self._names[0]]

    def outputs(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        try:
            results = self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        except RuntimeError as failure:
            if any(phrase in str(failure).lower() for phrase in _OUT_OF_MEMORY):
                raise MemoryError from failure
            raise
        # The output tensors are overwritten by the next call of this request.
        return {name: np.array(results[index], np.float32) for index, name in enumerate(self._names)}


def load_graphs(components: Mapping[str, Path], options: Mapping[str, str], threads: int) -> dict[str, Graph]:
    """Compile each component's IR, side by side. `options` are the target's OpenVINO properties."""
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": True})
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        **options,
    }

    def load(path: Path) -> Graph:
        return OpenVinoGraph(core.compile_model(path, "CPU", properties))

    with ThreadPoolExecutor(len(components)) as pool:
        return dict(zip(components, pool.map(load, components.values()), strict=True))
