"""OpenVINO on the CPU: one compiled model and one reused infer request per component."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino
import structlog

from runtime.arrays import Floats, Ids
from runtime.engines import Graph
from runtime.engines.compiled import CompiledGraphs

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


def load_graphs(
    components: Mapping[str, Path], options: Mapping[str, str], threads: int, kept: CompiledGraphs | None = None
) -> dict[str, Graph]:
    """Open each component's IR, side by side: as `kept` has it from an earlier start, else compiled.

    `options` are the target's OpenVINO properties.
    """
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": True})
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        **options,
    }

    def load(component: str) -> Graph:
        path = components[component]
        if kept is None:
            return OpenVinoGraph(core.compile_model(path, "CPU", properties))
        return OpenVinoGraph(_recall(core, component, path, properties, kept))

    with ThreadPoolExecutor(len(components)) as pool:
        return dict(zip(components, pool.map(load, components), strict=True))


def _recall(
    core: openvino.Core, component: str, path: Path, properties: Mapping[str, str], kept: CompiledGraphs
) -> openvino.CompiledModel:
    """A component as an earlier start left it, else compiled and kept for the next.

    What is kept has no weights: they stay mapped from the IR's own file, verified with the bundle.
    """
    name = kept.name(component, openvino.get_version(), properties)
    weightless = {**properties, "CACHE_MODE": "OPTIMIZE_SIZE"}
    graph = kept.read(name)
    try:
        if graph is not None:
            return core.import_model(graph, "CPU", {**weightless, "WEIGHTS_PATH": str(path.with_suffix(".bin"))})
    except RuntimeError as refused:  # OpenVINO itself looks at its version and the processor's instructions
        structlog.get_logger().warning("compiled graph refused", file=name, exc_info=refused)
    compiled = core.compile_model(path, "CPU", weightless)
    try:
        kept.write(name, compiled.export_model().getvalue())
    except RuntimeError as failure:
        structlog.get_logger().warning("compiled graph not kept", file=name, exc_info=failure)
    return compiled
