"""Buffers with fixed addresses and filled-up rows, on the CPU provider: all but the capture itself."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from runtime.engines.bound import BoundGraph, bucket


class Session:
    """A real session that remembers each run's graph id and the rows it was given."""

    def __init__(self) -> None:
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "y"], ["product"]), helper.make_node("Transpose", ["product"], ["out"])],
            "product",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "width"]) for name in "xy"],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["width", "rows"])],
        )
        graph.node[1].attribute.append(helper.make_attribute("perm", [0, 1]))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.graphs: list[str] = []
        self.fault: Exception | None = None

    def get_outputs(self):
        return self.session.get_outputs()

    def io_binding(self):
        return self.session.io_binding()

    def run_with_iobinding(self, binding, options):
        if self.fault is not None:
            raise self.fault
        self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self.session.run_with_iobinding(binding, options)


@pytest.fixture
def session() -> Session:
    return Session()


def inputs(rows: int, width: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.Generator(np.random.Philox(seed))
    return {name: random.standard_normal((rows, width), np.float32) for name in "xy"}


def test_results_are_right_and_belong_to_the_caller(session) -> None:
    graph = BoundGraph(session, "cpu", capture=True, fill=True)
    kept = []
    for rows, width in [(1, 3), (3, 3), (4, 3), (3, 5), (3, 3), (5, 3)] * 3:
        given = inputs(rows, width, seed=len(kept))
        kept.append((given["x"] * given["y"], graph(given)["out"]))
    for wanted, found in kept:
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted)


def test_a_shape_runs_once_uncaptured_and_then_under_its_own_number(session) -> None:
    graph = BoundGraph(session, "cpu", capture=True, fill=True)
    for rows in (2, 2, 2, 5, 6, 5, 2):
        graph(inputs(rows))
    assert session.graphs == ["-1", "1", "1", "-1", "2", "2", "1"], "5 rows are filled up to 6"


def test_without_capture_no_run_is_numbered_nor_filled(session) -> None:
    graph = BoundGraph(session, "cpu", capture=False, fill=False)
    for rows in (5, 5, 6):
        assert graph(inputs(rows))["out"].shape == (rows, 3)
    assert set(session.graphs) == {"-1"}
    assert len(graph._bound) == 2


def test_captured_shapes_are_few_and_stay_while_others_come_and_go(session) -> None:
    graph = BoundGraph(session, "cpu", capture=True, fill=False)
    for rows in range(1, 60):
        graph(inputs(rows))
        graph(inputs(rows))
    assert len(graph._bound) == 32
    assert sorted({int(number) for number in session.graphs}) == [-1, *range(1, 32)]
    session.graphs.clear()
    graph(inputs(1))
    assert session.graphs == ["1"]


def test_memory_that_ran_out_is_memory_error(session) -> None:
    graph = BoundGraph(session, "cpu", capture=True, fill=True)
    session.fault = RuntimeError("Failed to allocate memory for requested buffer of size 1")
    with pytest.raises(MemoryError):
        graph(inputs(2))
    session.fault = None
    np.testing.assert_array_equal(graph(inputs(2))["out"], inputs(2)["x"] * inputs(2)["y"])


@pytest.mark.parametrize(
    ("rows", "filled"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 6), (7, 8), (9, 12), (13, 16), (17, 24), (33, 48)]
)
def test_buckets(rows: int, filled: int) -> None:
    assert bucket(rows) == filled
