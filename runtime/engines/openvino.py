"""OpenVINO on the CPU: one compiled model and one reused infer request per component."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino
import structlog

from runtime.arrays import Floats, Ids
from runtime.engines import Graph
from runtime.engines.compiled import CompiledGraphs
from runtime.engines.mapped import let_go
from runtime.engines.session import raised
from runtime.engines.shaped import InputShapes, ShapedGraph, StaticShapes

# OpenVINO 2026.4 marks what a kept graph leaves to the weights' file. Of integers that it computed shapes with it reads
# others from there than it left out, as in a UNet that merges tokens; weights are of these types, and larger.
_LEFT_OUT = "WeightlessCacheAttribute_0"
_WEIGHT_TYPES = ("f32", "f16", "bf16", "i8", "u8")
_WEIGHT_BYTES = 4096


class OpenVinoGraph:
    """One compiled network and its infer request, which keeps its working memory between calls."""

    def __init__(self, compiled: openvino.CompiledModel, kept: memoryview | None = None) -> None:
        """`kept` is what it was imported from: its constants stay there."""
        self._request = compiled.create_infer_request()
        # Bundles of before ControlNets were compiled without output names; their graphs have one output of interest.
        self._names = [min(output.get_names(), default=f"{place}") for place, output in enumerate(compiled.outputs)]
        self._kept = kept  # let go of last

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        try:
            results = self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        except RuntimeError as failure:
            raise raised(failure) from failure
        # The output tensors are overwritten by the next call of this request.
        return {name: np.array(results[index], np.float32) for index, name in enumerate(self._names)}


def load_graphs(
    components: Mapping[str, Path],
    options: Mapping[str, str],
    threads: int,
    kept: CompiledGraphs | None,
    static: Mapping[str, StaticShapes],
) -> dict[str, Graph]:
    """Open each component's IR, side by side: as `kept` has it from an earlier start, else compiled; those of `static`
    for its shapes too.

    `options` are the target's OpenVINO properties.
    """
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": True})
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        # Pinned, threads would go back to cores of their own at every call, though another replica were there by now.
        "ENABLE_CPU_PINNING": "NO",
        **options,
    }

    def load(component: str) -> Graph:
        opener = _Opener(core, component, components[component], properties, kept)
        return ShapedGraph(opener.open, static[component]) if component in static else opener.open(None)

    with ThreadPoolExecutor(len(components)) as pool:
        return dict(zip(components, pool.map(load, components), strict=True))


@dataclass(frozen=True)
class _Opener:
    """One component's IR, and what it is compiled with."""

    core: openvino.Core
    component: str
    path: Path
    properties: Mapping[str, str]
    kept: CompiledGraphs | None

    def open(self, shapes: InputShapes | None) -> Graph:
        """The graph for these shapes of its inputs (None: for all) as an earlier start left it, else compiled.

        It has copies, laid out for its kernels, of nearly all weights; those in the file are not held in memory too.
        """
        try:
            graph = OpenVinoGraph(self._compile(shapes, {})) if self.kept is None else self._recall(shapes, self.kept)
        except RuntimeError as failure:
            raise raised(failure) from failure
        let_go([self._weights])
        return graph

    @property
    def _weights(self) -> Path:
        return self.path.with_suffix(".bin")

    def _recall(self, shapes: InputShapes | None, kept: CompiledGraphs) -> OpenVinoGraph:
        """What is kept has no weights: they stay mapped from the IR's own file, verified with the bundle."""
        fixed = {} if shapes is None else {"shapes": str(sorted(shapes.items()))}
        name = kept.name(self.component, openvino.get_version(), {**self.properties, **fixed})
        weightless = {"CACHE_MODE": "OPTIMIZE_SIZE"}
        graph = kept.read(name)
        try:
            if graph is not None:
                import_with = {**self.properties, **weightless, "WEIGHTS_PATH": str(self._weights)}
                mapped = openvino.Tensor(np.frombuffer(graph, np.uint8), shared_memory=True)
                imported = OpenVinoGraph(self.core.import_model(mapped, "CPU", import_with), graph)
                kept.let_go(name)
                return imported
        except RuntimeError as refused:  # OpenVINO itself looks at its version and the processor's instructions
            structlog.get_logger().warning("compiled graph refused", file=name, exc_info=refused)
        compiled = self._compile(shapes, weightless)
        try:
            kept.write(name, compiled.export_model().getbuffer())
        except RuntimeError as failure:
            structlog.get_logger().warning("compiled graph not kept", file=name, exc_info=failure)
        return OpenVinoGraph(compiled)

    def _compile(self, shapes: InputShapes | None, further: Mapping[str, str]) -> openvino.CompiledModel:
        model = self.core.read_model(self.path)
        for node in model.get_ops():
            if node.get_type_name() == "Constant" and not _is_weight(node) and _LEFT_OUT in node.rt_info:
                del node.rt_info[_LEFT_OUT]
        if shapes is not None:
            model.reshape({name: openvino.PartialShape(list(shape)) for name, shape in shapes.items()})
        return self.core.compile_model(model, "CPU", {**self.properties, **further})


def _is_weight(constant: openvino.Node) -> bool:
    kind = constant.get_element_type().get_type_name()
    return kind in _WEIGHT_TYPES and constant.get_byte_size() >= _WEIGHT_BYTES
