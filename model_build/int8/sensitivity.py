"""Sensitivity: what quantizing each layer's input alone does to a network's output, measured; who is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset15

_GATES = "gates"
_MULTIPLIES = ("Convolution", "GroupConvolution", "MatMul")
_MAX_ERROR_LEFT = 0.25  # of the summed squared errors
_MAX_WORK_OUT = 0.1  # of the multiplications; what is left out no longer runs in int8
Feed = Mapping[str, NDArray[Any]]
Gated = Callable[[Feed, NDArray[np.float32]], NDArray[Any]]  # a network's output with these gates, one a quantizer


@dataclass(frozen=True)
class Layer:
    """One quantized activation: the layers that read it, their share of all multiplications, and its error alone.

    `error` is the squared error of the network's output when only this activation is quantized, over the output's
    square, averaged over the samples.
    """

    readers: tuple[str, ...]
    work: float
    error: float


def quantizers(model: openvino.Model) -> list[openvino.Node]:
    """The FakeQuantize nodes of activations, in topological order; weights are stored as integers already."""
    return [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "FakeQuantize" and node.input_value(0).get_node().get_type_name() != "Constant"
    ]


def readers_of(model: openvino.Model) -> list[list[str]]:
    """For each quantizer the names of the multiplying nodes that read it; none where only attention does, which the
    CPU multiplies in floating point anyway.
    """
    return [_readers(node) for node in quantizers(model)]


def measure(model: openvino.Model, samples: Sequence[Feed], names: Mapping[str, str], threads: int) -> list[Layer]:
    """The layers of a quantized model in the order of `quantizers`; `names` gives a node's name in the checkpoint.

    One compiled network measures all of them: each quantizer gets a gate, an input that is 1 where it quantizes and 0
    where it passes on what it gets. The first sample measures all, the others only the half that was worst by it:
    errors differ by orders of magnitude, and who is left out is decided among the largest.
    """
    work = _work(model.clone(), samples[0])
    readers = readers_of(model)
    shares = [sum(work.get(name, 0.0) for name in output_value) for output_value in readers]
    gated = _gated(model.clone())
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    run = openvino.Core().compile_model(gated, "CPU", options)

    def output(sample: Feed, gates: NDArray[np.float32]) -> NDArray[Any]:
        output_value: NDArray[Any] = run({**sample, _GATES: gates})[0]
        return output_value

    return [
        Layer(tuple(sorted({names.get(name, name) for name in output_value})), share, error)
        for output_value, share, error in zip(readers, shares, errors_alone(output, len(readers), samples), strict=True)
    ]


def errors_alone(run: Gated, count: int, samples: Sequence[Feed]) -> list[float]:
    """The error of each of a network's `count` quantizers, as `Layer` has it."""
    closed, each = np.zeros(count, np.float32), np.eye(count, dtype=np.float32)

    def alone(sample: Feed, chosen: Sequence[int]) -> list[float]:
        wanted = run(sample, closed).astype(np.float64)
        power = np.mean(wanted**2)
        return [float(np.mean((run(sample, each[index]) - wanted) ** 2) / power) for index in chosen]

    errors = np.array(alone(samples[0], range(count)))
    worst = [int(index) for index in np.argsort(-errors)[: -(-count // 2)]]
    again = [alone(sample, worst) for sample in samples[1:]]
    errors[worst] = np.mean(np.array([errors[worst].tolist(), *again]), axis=0)
    return [float(error) for error in errors]


def left_out(layers: Sequence[Layer]) -> list[int]:
    """Which layers are not to be quantized: the worst first, until the others' summed error is a quarter of the whole,
    passing over those with which a tenth of all multiplications would no longer run in int8.
    """
    total, work, chosen = sum(layer.error for layer in layers), 0.0, []
    left = total
    for index in sorted(range(len(layers)), key=lambda index: -layers[index].error):
        if left <= _MAX_ERROR_LEFT * total:
            break
        if work + layers[index].work <= _MAX_WORK_OUT:
            chosen.append(index)
            work += layers[index].work
            left -= layers[index].error
    return sorted(chosen)


def bypass(model: openvino.Model, chosen: Sequence[int]) -> None:
    """Take these quantizers out, in place; their layers keep their integer weights and multiply in floating point."""
    nodes = quantizers(model)
    for index in chosen:
        for target in list(nodes[index].output(0).get_target_inputs()):
            target.replace_source_output(nodes[index].input_value(0))


def _gated(model: openvino.Model) -> openvino.Model:
    """x -> x + gate * (quantized x - x) for every quantizer; a new input `gates` float32 [quantizers]."""
    nodes = quantizers(model)
    gates = opset15.parameter([len(nodes)], np.float32, name=_GATES)
    gates.output(0).set_names({_GATES})
    zero = opset15.constant(np.int64(0))
    for index, node in enumerate(nodes):
        targets = list(node.output(0).get_target_inputs())
        gate = opset15.gather(gates, opset15.constant(np.int64(index)), zero)
        passed = node.input_value(0)
        mixed = opset15.add(passed, opset15.multiply(opset15.subtract(node, passed), gate))
        for target in targets:
            target.replace_source_output(mixed.output(0))
    model.add_parameters([gates])
    model.validate_nodes_and_infer_types()
    return model


def _readers(node: openvino.Node) -> list[str]:
    """Names of the multiplying layers that a quantized activation reaches, through what only moves values."""
    layers, waiting, seen = [], [node], {node.get_friendly_name()}
    while waiting:
        for target in waiting.pop().output(0).get_target_inputs():
            reader = target.get_node()
            name = reader.get_friendly_name()
            if name in seen:
                continue
            seen.add(name)
            if reader.get_type_name() in _MULTIPLIES:
                layers.append(name)
            elif reader.get_type_name() != "FakeQuantize" and reader.get_output_size() == 1:
                waiting.append(reader)
    return layers


def _work(model: openvino.Model, sample: Feed) -> dict[str, float]:
    """Each multiplying layer's share of the multiplications for a sample."""
    model.reshape({name: list(value.shape) for name, value in sample.items()})
    counts = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in _MULTIPLIES:
            weights = node.input_value(1).get_shape()
            inner = np.prod(weights[1:]) if "Conv" in node.get_type_name() else node.input_value(0).get_shape()[-1]
            counts[node.get_friendly_name()] = float(np.prod(node.get_output_shape(0)) * inner)
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}
