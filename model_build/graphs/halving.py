"""A float32 graph made float16, but for its border, what becomes sines, and inputs that kernels take in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir

_FLOAT, _HALF = onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16
_SINES = ("Sin", "Cos")
# By position: a normalisation's scale and bias (its kernel adds up in float32), and a Resize's factors.
_EXACT_INPUTS = {"GroupNorm": (1, 2), "SkipGroupNorm": (1, 2), "Resize": (1, 2)}


def write_half(source: Path, target: Path) -> None:
    """Read float32 ONNX from `source`, write it in float16 to `target`, weights in `{target}.data`."""
    model = load_widened(source)
    halve(model)
    onnx_ir.save(model, target, external_data=f"{target.name}.data")


def load_widened(path: Path) -> onnx_ir.Model:
    """A graph in memory; weights stored in half, each with a Cast, become float32 constants again."""
    model = onnx_ir.load(path)
    onnx_ir.external_data.load_to_model(model)
    for node in [node for node in model.graph if node.op_type == "Cast"]:
        weights = node.inputs[0]
        if weights is None or weights.const_value is None or not weights.is_initializer():
            continue
        name = str(node.outputs[0].name)
        whole = onnx_ir.tensor(weights.const_value.numpy().astype(np.float32), name=name)
        value = onnx_ir.Value(name=name, shape=weights.shape, type=onnx_ir.TensorType(whole.dtype), const_value=whole)
        node.outputs[0].replace_all_uses_with(value)
        model.graph.remove(node, safe=True)
        model.graph.initializers.add(value)
        if not weights.uses():
            del model.graph.initializers[str(weights.name)]
    return model


def halve(model: onnx_ir.Model) -> None:
    """In place. Inputs and outputs stay float32, with a Cast each.

    A timestep's sines are computed in float32: half a timestep is lost above 512 in float16.
    """
    graph = model.graph
    exact = _before_sines(graph)
    border = [value for value in graph.inputs if value.dtype == _FLOAT]
    border += [value for node in exact for value in node.outputs]
    for value in border:
        _halve_readers(graph, value, exact)
    for value in list(graph.initializers.values()):
        if value.const_value is not None and value.const_value.dtype == _FLOAT:
            _halve_readers(graph, value, exact)
    for node in graph:
        if node.op_type == "Cast" and node not in exact and node.attributes["to"].as_int() == int(_FLOAT):
            node.attributes["to"] = onnx_ir.AttrInt64("to", int(_HALF))
    _widen_outputs(graph)


def _halve_readers(graph: onnx_ir.Graph, value: onnx_ir.Value, exact: set[onnx_ir.Node]) -> None:
    """Give a value's readers, those of float32 apart, the same in float16: as a weight, or behind a Cast."""
    readers = [
        (use.node, use.idx)
        for use in value.uses()
        if use.node not in exact and use.idx not in _EXACT_INPUTS.get(use.node.op_type, ())
    ]
    if not readers or not _is_float(value):
        return
    name = f"{value.name}.half"
    if value.const_value is not None:
        with np.errstate(over="ignore"):  # a mask's lowest number becomes minus infinity
            small = onnx_ir.tensor(value.const_value.numpy().astype(np.float16), name=name)
        half = onnx_ir.Value(name=name, shape=value.shape, type=onnx_ir.TensorType(_HALF), const_value=small)
        graph.initializers.add(half)
    else:
        cast = onnx_ir.node("Cast", [value], {"to": int(_HALF)}, name=f"{name}.cast")
        half = cast.outputs[0]
        half.name = name
        producer = value.producer()
        graph.insert_before(graph[0], cast) if producer is None else graph.insert_after(producer, cast)
    for node, index in readers:
        node.replace_input_with(index, half)
    if value.const_value is not None and not value.uses():
        del graph.initializers[str(value.name)]


def _is_float(value: onnx_ir.Value | None) -> bool:
    """By where its first inputs come from: nodes between the graph's inputs and a sine keep their input's type."""
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type in ("Shape", "Size"):
            return False
        if producer.op_type == "Cast":
            return producer.attributes["to"].as_int() == int(_FLOAT)
        value = producer.inputs[0]
    return value is not None and value.dtype == _FLOAT


def _before_sines(graph: onnx_ir.Graph) -> set[onnx_ir.Node]:
    """Sines and cosines, and all that leads to them."""
    before: set[onnx_ir.Node] = set()
    waiting = [node for node in graph if node.op_type in _SINES]
    while waiting:
        node = waiting.pop()
        if node not in before:
            before.add(node)
            producers = (value.producer() for value in node.inputs if value is not None)
            waiting += [producer for producer in producers if producer is not None]
    return before


def _widen_outputs(graph: onnx_ir.Graph) -> None:
    for index, output in enumerate(graph.outputs):
        name, producer = str(output.name), output.producer()
        cast = onnx_ir.node("Cast", [output], {"to": int(_FLOAT)}, name=f"{name}.cast")
        wide = cast.outputs[0]
        wide.shape, wide.type = output.shape, output.type
        output.name, output.type, output.shape = f"{name}.half", None, None
        wide.name = name
        graph.outputs[index] = wide
        graph.insert_after(producer, cast) if producer is not None else graph.append(cast)
