"""A session for each of a few shapes, on the CPU provider: all but the capture itself."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from runtime.engines.bound import bucket
from runtime.engines.captured import PerShapeGraph


class Session:
    """A real session that remembers the addresses and rows of each run."""

    def __init__(self) -> None:
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "y"], ["product"])],
            "product",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "width"]) for name in "xy"],
            [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["rows", "width"])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.rows: list[int] = []
        self.addresses: set[int] = set()
        self.fault: Exception | None = None

    def get_outputs(self):
        return self.session.get_outputs()

    def io_binding(self):
        return self.session.io_binding()

    def run_with_iobinding(self, binding, options=None):
        if self.fault is not None:
            raise self.fault
        self.session.run_with_iobinding(binding, options)
        (output,) = binding.get_outputs()
        self.rows.append(output.shape()[0])
        self.addresses.add(output.data_ptr())


class Sessions:
    """Opens them, and refuses to beyond `fitting`."""

    def __init__(self, fitting: int = 99) -> None:
        self.opened: list[tuple[bool, Session]] = []
        self.fitting = fitting

    def __call__(self, capture: bool) -> Session:
        if len(self.opened) == self.fitting:
            raise RuntimeError("CUDA failure 2: out of memory")
        self.opened.append((capture, Session()))
        return self.opened[-1][1]

    @property
    def captured(self) -> list[Session]:
        return [session for capture, session in self.opened if capture]


def inputs(rows: int, width: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.Generator(np.random.Philox(seed))
    return {name: random.standard_normal((rows, width), np.float32) for name in "xy"}


def ask(graph: PerShapeGraph, *rows: int) -> None:
    """Calls of so many rows, each looked at when all are done: results belong to the caller."""
    kept = [(given := inputs(each, seed=number), graph(given)["product"]) for number, each in enumerate(rows)]
    for given, found in kept:
        np.testing.assert_array_equal(found, given["x"] * given["y"])


def test_a_shape_that_comes_again_gets_a_session_whose_buffers_stay() -> None:
    sessions = Sessions()
    ask(PerShapeGraph(sessions, "cpu", sessions=2), 2, 2, 2, 5, 6, 2, 5, 2)
    assert [capture for capture, _ in sessions.opened] == [False, True, True]
    two, six = sessions.captured
    assert (set(two.rows), set(six.rows)) == ({2}, {6}), "5 rows are filled up to 6"
    assert len(two.addresses) == len(six.addresses) == 1
    assert sessions.opened[0][1].rows == [2, 6], "each shape once"


def test_beyond_so_many_sessions_calls_are_not_captured() -> None:
    sessions = Sessions()
    ask(PerShapeGraph(sessions, "cpu", sessions=1), 2, 2, 3, 3, 3, 2)
    assert len(sessions.captured) == 1
    assert sessions.opened[0][1].rows == [2, 3, 3, 3]
    none = Sessions()
    ask(PerShapeGraph(none, "cpu", sessions=0), 2, 2, 2)
    assert not none.captured


def test_a_session_that_does_not_fit_is_done_without() -> None:
    sessions = Sessions(fitting=2)
    ask(PerShapeGraph(sessions, "cpu", sessions=4), 2, 2, 3, 3, 4, 4, 2)
    assert len(sessions.captured) == 1
    assert sessions.opened[0][1].rows == [2, 3, 3, 4, 4]


def test_memory_that_ran_out_while_it_ran_is_memory_error() -> None:
    sessions = Sessions()
    graph = PerShapeGraph(sessions, "cpu", sessions=1)
    ask(graph, 2, 2)
    sessions.captured[0].fault = RuntimeError("Failed to allocate memory")
    with pytest.raises(MemoryError):
        graph(inputs(2))


def test_an_engines_most_rows_are_never_exceeded() -> None:
    assert [bucket(rows, 10) for rows in (5, 9, 10)] == [6, 10, 10]
    sessions = Sessions()
    ask(PerShapeGraph(sessions, "cpu", sessions=0, most_rows=10), 9)
    assert sessions.opened[0][1].rows == [10]
