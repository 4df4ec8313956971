"""A graph with inputs and outputs in buffers of their own on the engine's device, so that a step can be replayed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime

from runtime.arrays import Floats, Ids
from runtime.engines.session import raised

_SHAPES_KEPT = 32
_NOT_CAPTURED = -1  # ONNX Runtime's own: a run with this graph id is neither captured nor replayed

ShapeKey = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass
class Bound:
    """The buffers of one combination of input shapes; `outputs` is empty until a first run has told their shapes."""

    binding: Any
    inputs: dict[str, Any]
    graph: int
    outputs: dict[str, Any] = field(default_factory=dict)


def bucket(rows: int, most: int | None = None) -> int:
    """The rows a call is filled up to: a power of two, or midway between two, so that few shapes occur; `most` is as
    far as an engine goes.
    """
    power = 1 << (rows - 1).bit_length()
    midway = power * 3 // 4
    filled_rows = midway if rows <= midway and power >= 4 else power
    return filled_rows if most is None else max(rows, min(filled_rows, most))


def shapes_of(inputs: Mapping[str, Floats | Ids]) -> ShapeKey:
    """What tells one combination of input shapes from another."""
    return tuple((name, value.shape) for name, value in inputs.items())


class BoundGraph:
    """One session whose buffers keep their addresses from call to call, as replaying a captured CUDA graph needs."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str, *, capture: bool, fill: bool) -> None:
        """`device` is ONNX Runtime's name (`cuda`, `cpu`); with `capture` each shape's run is captured once and then
        replayed; with `fill` calls are filled up to a `bucket` of rows.
        """
        self._session = session
        self._device = device
        self._capture = capture
        self._fill = fill
        self._names = [output.name for output in session.get_outputs()]
        self._bound: OrderedDict[ShapeKey, Bound] = OrderedDict()
        self._captured = 0

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        rows = len(next(iter(inputs.values())))
        whole = {name: filled(value, bucket(rows) if self._fill else rows) for name, value in inputs.items()}
        try:
            return {name: np.array(value[:rows], np.float32) for name, value in self._run(whole).items()}
        except Exception as failure:
            raise raised(failure) from failure

    def _run(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        bound = self._find(inputs)
        for name, value in inputs.items():
            bound.inputs[name].update_inplace(value)
        learning = not bound.outputs
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(_NOT_CAPTURED if learning else bound.graph))
        self._session.run_with_iobinding(bound.binding, options)
        if not learning:
            return {name: np.asarray(buffer.numpy()) for name, buffer in bound.outputs.items()}
        results = dict(zip(self._names, bound.binding.copy_outputs_to_cpu(), strict=True))
        for name, value in results.items():  # from now on they have addresses of their own too
            bound.outputs[name] = buffer_like(value, self._device)
            bound.binding.bind_ortvalue_output(name, bound.outputs[name])
        return results

    def _find(self, inputs: Mapping[str, Floats | Ids]) -> Bound:
        shapes = shapes_of(inputs)
        if shapes in self._bound:
            self._bound.move_to_end(shapes)
            return self._bound[shapes]
        if len(self._bound) == _SHAPES_KEPT:
            # What was captured stays: its graph holds on to these addresses and cannot be taken from the session.
            droppable = next((shapes for shapes, bound in self._bound.items() if bound.graph == _NOT_CAPTURED), None)
            if droppable is not None:
                del self._bound[droppable]
        binding = self._session.io_binding()
        buffers = {name: buffer_like(value, self._device) for name, value in inputs.items()}
        for name, buffer in buffers.items():
            binding.bind_ortvalue_input(name, buffer)
        for name in self._names:
            binding.bind_output(name, self._device)
        self._bound[shapes] = Bound(binding, buffers, self._graph_id())
        return self._bound[shapes]

    def _graph_id(self) -> int:
        """A number for a shape to be captured under; beyond the first few shapes, none is captured any more."""
        if not self._capture or self._captured == _SHAPES_KEPT - 1:
            return _NOT_CAPTURED
        self._captured += 1
        return self._captured


def buffer_like(value: Floats | Ids, device: str) -> Any:
    """Memory on a device for what has this value's shape and type."""
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype, device, 0)


def filled(value: Floats | Ids, rows: int) -> Floats | Ids:
    """The value with its last row repeated up to `rows`: numbers the network is used to."""
    missing = rows - len(value)
    whole = np.concatenate([value, np.repeat(value[-1:], missing, axis=0)]) if missing else value
    return np.ascontiguousarray(whole)
