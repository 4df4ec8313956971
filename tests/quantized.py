"""The form in which TensorRT takes int8, looked for in a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def quantized_layers(path: Path) -> list[str]:
    """Names of the nodes that multiply in int8, after a look at every pair in the graph.

    Symmetric int8; an activation has one scale, weights have one for each output channel; nothing else has a pair, so
    that no bias is quantized; and a node has both of its pairs or none.
    """
    model = onnx.load(path)
    made_by = {name: node for node in model.graph.node for name in node.output}
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    found, paired = [], set()
    for node in model.graph.node:
        pairs = {
            place: _pair(made_by, name) for place, name in enumerate(node.input) if node.op_type != "QuantizeLinear"
        }
        if not any(pairs.values()):
            continue
        assert {place for place, pair in pairs.items() if pair} == {0, 1}, f"{node.name}: both factors and no bias"
        activation, weights = pairs[0], pairs[1]
        assert activation is not None
        assert weights is not None
        values = constants[weights.input[0]]
        for pair in (activation, weights):
            scale, zero = (constants[name] for name in pair.input[1:3])
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (scale > 0).all()
        assert constants[activation.input[1]].shape == ()
        axis = {"Conv": 0, "MatMul": 1, "Gemm": int(not _transposed(node))}[node.op_type]
        assert [each.i for each in weights.attribute if each.name == "axis"] == [axis]
        assert constants[weights.input[1]].shape == (values.shape[axis],)
        paired |= {activation.name, weights.name}
        found.append(node.name)
    assert paired == {node.name for node in model.graph.node if node.op_type == "QuantizeLinear"}
    return found


def _pair(made_by: dict[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """The QuantizeLinear of the pair that a value comes from, whose DequantizeLinear has the same scale and axis."""
    second = made_by.get(name)
    if second is None or second.op_type != "DequantizeLinear":
        return None
    first = made_by[second.input[0]]
    assert first.op_type == "QuantizeLinear"
    assert first.input[1:] == second.input[1:]
    assert [each for each in first.attribute if each.name == "axis"] == [
        each for each in second.attribute if each.name == "axis"
    ]
    return first


def _transposed(node: onnx.NodeProto) -> bool:
    return any(each.name == "transB" and each.i for each in node.attribute)
