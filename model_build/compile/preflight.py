"""Preflight: what engines will take of a GPU's memory, read off their graphs before hours are spent on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir
from onnxscript.optimizer import fold_constants

from model_build import BuildRefused

CONTEXT_BYTES = 1 << 30  # an allowance for CUDA's context and the kernels of cuDNN, cuBLAS and TensorRT
_GIB = 1 << 30
_FLOATS = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)
_VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")  # they take no memory of their own


@dataclass(frozen=True)
class Need:
    """Bytes of one component: its weights, and the most that values alive at once take during its largest call."""

    weights: int
    activations: int


def need(path: Path, shapes: Mapping[str, Sequence[int]], itemsize: int) -> Need:
    """What a float32 graph needs when its inputs have these shapes and a float takes `itemsize` bytes.

    Values live from the node that makes them to the last that reads them. An upper bound: nothing is computed in place.
    The scores of attention are not counted, since neither CUDA's attention kernels nor TensorRT's keep them.
    """
    model = onnx_ir.load(path)
    for value in model.graph.inputs:
        value.shape = onnx_ir.Shape(shapes[str(value.name)])
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    fold_constants(model, onnx_shape_inference=True)
    weights = sum(_bytes(value, itemsize) for value in model.graph.initializers.values())
    return Need(weights, _most_alive(model.graph, itemsize))


def refuse_what_does_not_fit(
    target: str, needs: Mapping[str, Need], memory: int, device: str, call: str, graphs: int = 0
) -> None:
    """Raises BuildRefused with the numbers. Every component has memory of its own, so that theirs adds up.

    `call` describes the largest call that was reckoned with. `graphs` is how many shapes of the UNet a runtime replays
    as CUDA graphs in a session each: it reads the engine again, and so has weights and working memory of its own.
    """
    weights = sum(each.weights for each in needs.values())
    activations = sum(each.activations for each in needs.values())
    replayed = graphs * (needs["unet"].weights + needs["unet"].activations) if graphs else 0
    total = weights + activations + replayed + CONTEXT_BYTES
    if total > memory:
        further = f"{replayed / _GIB:.1f} for {graphs} CUDA graphs of the UNet, " if graphs else ""
        raise BuildRefused(
            f"{target} would take about {total / _GIB:.1f} GiB of memory ({weights / _GIB:.1f} of weights, "
            f"{activations / _GIB:.1f} for {call}, {further}{CONTEXT_BYTES / _GIB:.1f} for CUDA), and {device} has "
            f"{memory / _GIB:.1f} GiB; lower --rows, --max-size, --max-pixels{' or --graphs' if graphs else ''}."
        )


def _most_alive(graph: onnx_ir.Graph, itemsize: int) -> int:
    owner: dict[onnx_ir.Value, onnx_ir.Value] = {}
    readers: Counter[onnx_ir.Value] = Counter()
    nodes = list(graph)
    for node in nodes:
        if node.op_type in _VIEWS and node.inputs[0] is not None:
            owner[node.outputs[0]] = owner.get(node.inputs[0], node.inputs[0])
        readers.update(owner.get(value, value) for value in node.inputs if value is not None)
    readers.update(owner.get(value, value) for value in graph.outputs)
    alive = {value: _bytes(value, itemsize) for value in graph.inputs}
    most = 0
    for node in nodes:
        alive.update(
            (value, _bytes(value, itemsize))
            for value in node.outputs
            if value not in owner and readers[value] and not (_is_scores(value) or _is_of_weights(node))
        )
        most = max(most, sum(alive.values()))
        for value in (owner.get(value, value) for value in node.inputs if value is not None):
            readers[value] -= 1
            if not readers[value]:
                alive.pop(value, None)
    return most


def _is_scores(value: onnx_ir.Value) -> bool:
    """What a softmax reads or writes."""
    producer = value.producer()
    return (producer is not None and producer.op_type == "Softmax") or any(
        use.node.op_type == "Softmax" for use in value.uses()
    )


def _is_of_weights(node: onnx_ir.Node) -> bool:
    """Weights stored in half are widened once, when the engine is made, or not at all."""
    return node.op_type == "Cast" and node.inputs[0] is not None and node.inputs[0].is_initializer()


def _bytes(value: onnx_ir.Value, itemsize: int) -> int:
    if value.shape is None or value.dtype is None:
        return 0
    sizes = [size for size in value.shape if isinstance(size, int)]
    return math.ceil(math.prod(sizes) * (itemsize if value.dtype in _FLOATS else value.dtype.itemsize))
