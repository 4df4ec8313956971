"""For a provider that captures one CUDA graph a session: a session for each of a few shapes, and one for all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
import structlog

from runtime.arrays import Floats, Ids
from runtime.engines.bound import BoundGraph, ShapeKey, bucket, buffer_like, filled, shapes_of
from runtime.engines.session import raised

OpenSession = Callable[[bool], onnxruntime.InferenceSession]


class Captured:
    """One session for one combination of shapes, all of its buffers bound before its first run."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        device: str,
        inputs: Mapping[str, Floats | Ids],
        outputs: Mapping[str, Floats],
    ) -> None:
        """`inputs` and `outputs` have the shapes and types of every call to come."""
        self._session = session
        self._binding = session.io_binding()
        self._inputs = {name: buffer_like(value, device) for name, value in inputs.items()}
        self._outputs = {name: buffer_like(value, device) for name, value in outputs.items()}
        for name, buffer in self._inputs.items():
            self._binding.bind_ortvalue_input(name, buffer)
        for name, buffer in self._outputs.items():
            self._binding.bind_ortvalue_output(name, buffer)

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        for name, value in inputs.items():
            self._inputs[name].update_inplace(value)
        self._session.run_with_iobinding(self._binding)
        return {name: np.array(buffer.numpy(), np.float32) for name, buffer in self._outputs.items()}


class PerShapeGraph:
    """Calls are filled up to a `bucket` of rows; a shape that comes a second time gets a session of its own, while
    there are fewer than `sessions`: each of them holds the weights again. All else runs uncaptured.
    """

    def __init__(self, open_session: OpenSession, device: str, *, sessions: int, most_rows: int | None = None) -> None:
        """`open_session(capture)` opens the same file each time; `most_rows` is the most that its engine takes."""
        self._open_session = open_session
        self._device = device
        self._sessions = sessions
        self._most_rows = most_rows
        self._others = BoundGraph(open_session(False), device, capture=False, fill=False)
        self._outputs: dict[ShapeKey, dict[str, Floats]] = {}  # of shapes seen once: what a session must provide for
        self._captured: dict[ShapeKey, Captured] = {}

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> dict[str, Floats]:
        rows = len(next(iter(inputs.values())))
        whole = {name: filled(value, bucket(rows, self._most_rows)) for name, value in inputs.items()}
        shapes = shapes_of(whole)
        if shapes in self._outputs and len(self._captured) < self._sessions:
            self._capture(shapes, whole)
        captured = self._captured.get(shapes)
        if captured is None:
            results = self._others(whole)
            if len(self._captured) < self._sessions:
                self._outputs[shapes] = {name: np.empty_like(value) for name, value in results.items()}
        else:
            try:
                results = captured(whole)
            except Exception as failure:
                raise raised(failure) from failure
        return {name: value[:rows] for name, value in results.items()}

    def _capture(self, shapes: ShapeKey, whole: Mapping[str, Floats | Ids]) -> None:
        """Where a session does not fit or start, none is tried again: what is there serves."""
        outputs = self._outputs.pop(shapes)
        try:
            self._captured[shapes] = Captured(self._open_session(True), self._device, whole, outputs)
        except Exception as failure:
            self._sessions = len(self._captured)
            structlog.get_logger().warning("no more CUDA graphs", captured=self._sessions, reason=str(failure))
