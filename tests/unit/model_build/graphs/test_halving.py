"""Halved graphs hold every weight once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from model_build.graphs.halving import load_widened, write_half
from model_build.graphs.optimize import halve_weights


@pytest.fixture
def optimised(tmp_path: Path) -> Path:
    """Two products with the same weights, which are stored in half as optimising leaves them."""
    drawn = np.random.Generator(np.random.Philox(0)).standard_normal((64, 64)).astype(np.float16)
    x = onnx_ir.val("x", onnx_ir.DataType.FLOAT, [1, 64])
    weights = onnx_ir.val("w", const_value=onnx_ir.tensor(drawn.astype(np.float32), name="w"))
    first = onnx_ir.node("MatMul", [x, weights])
    second = onnx_ir.node("MatMul", [first.outputs[0], weights])
    second.outputs[0].name = "y"
    second.outputs[0].type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    graph = onnx_ir.Graph(
        [x], second.outputs, nodes=[first, second], initializers=[weights], opset_imports={"": 20}, name="g"
    )
    model = onnx_ir.Model(graph, ir_version=10)
    halve_weights(model)
    assert [node.op_type for node in graph] == ["Cast", "MatMul", "MatMul"]
    onnx_ir.save(model, tmp_path / "g.onnx", external_data="g.onnx.data")
    return tmp_path / "g.onnx"


def test_what_is_widened_replaces_what_was_stored(optimised: Path) -> None:
    initializers = load_widened(optimised).graph.initializers.values()
    assert [value.dtype for value in initializers] == [onnx_ir.DataType.FLOAT]


def test_a_halved_file_is_no_larger_than_its_weights(optimised: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    write_half(optimised, half)
    assert half.with_name("half.onnx.data").stat().st_size == 2 * 64 * 64
