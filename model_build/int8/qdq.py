"""Q/DQ: a UNet's ONNX graph with int8 written into it, as QuantizeLinear and DequantizeLinear pairs for TensorRT.

Every pair is symmetric (int8, zero point 0): one scale for an activation, one an output channel for weights, none on a
bias. Pairs stand right before a convolution or a product with weights; what surrounds them is float16.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxscript.optimizer import fold_constants

from model_build.graphs.halving import halve, load_widened
from model_build.int8.quantize import checkpoint_names, report, trials
from model_build.int8.sensitivity import Feed, Layer, errors_alone, left_out

_MULTIPLIES = ("Conv", "MatMul", "Gemm")
_GATES = "gates"
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
# As NVIDIA's own ModelOpt calls it for TensorRT. Weights keep a pair each and stay float: what is left out needs
# them, and a scale rounded to float16 is then the one they are quantized with.
_FOR_TENSORRT = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "OpTypesToExcludeOutputQuantization": list(_MULTIPLIES),
    "CalibMovingAverage": True,  # a range is the mean of every call's, which one outlier does not stretch
}


@dataclass(frozen=True)
class ActivationPair:
    """A quantized activation: its QuantizeLinear, its DequantizeLinear, and what multiplies its values by weights."""

    quantize: onnx_ir.Node
    dequantize: onnx_ir.Node

    @property
    def source(self) -> onnx_ir.Value:
        value = self.quantize.inputs[0]
        assert value is not None  # noqa: S101  (an input that the operator must have)
        return value

    @property
    def readers(self) -> list[onnx_ir.Node]:
        return [use.node for use in self.dequantize.outputs[0].uses()]


def write_int8(source: Path, target: Path, samples: Sequence[Feed], threads: int) -> dict[str, Any]:
    """Read a UNet in float32 ONNX from `source`, write it to `target` with its pairs, weights in `{target}.data`.

    What suffers most stays float16, weights and all; what was done, for the report (JSON).
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        paired = Path(folder) / "paired.onnx"
        _write_pairs(source, paired, samples)
        given = trials(samples, "unet")
        layers = measure(paired, given, _work(source, given[0]), checkpoint_names(source), threads)
        model = onnx_ir.load(paired)
        onnx_ir.external_data.load_to_model(model)
    chosen = left_out(layers)
    bypass(model, chosen)
    _keep_scales_above_zero(model.graph)
    for value in (value for node in model.graph for value in node.outputs if not value.is_graph_output()):
        value.type = value.shape = None  # the library notes every value's; half of them are about to change
    halve(model)
    onnx_ir.save(model, target, external_data=f"{target.name}.data")
    return report(layers, chosen)


def pairs(graph: onnx_ir.Graph) -> list[ActivationPair]:
    """Those of activations, in the graph's order; weights have pairs of their own."""
    return [
        ActivationPair(node, next(iter(node.outputs[0].uses())).node)
        for node in graph
        if node.op_type == "QuantizeLinear" and not _is_weights(node.inputs[0])
    ]


def measure(
    path: Path, samples: Sequence[Feed], work: Mapping[str, float], names: Mapping[str, str], threads: int
) -> list[Layer]:
    """The layers of a graph in the order of `pairs`; `work` has each node's share of all multiplications, and `names`
    its name in the checkpoint.
    """
    model = onnx_ir.load(path)
    quantized = pairs(model.graph)
    readers = [[str(node.name) for node in pair.readers] for pair in quantized]
    _gate(model.graph, quantized)
    gated = path.with_name("gated.onnx")
    onnx_ir.save(model, gated)  # its weights are those beside `path`
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(gated, settings, providers=["CPUExecutionProvider"])

    def run(sample: Feed, gates: NDArray[np.float32]) -> NDArray[Any]:
        output: NDArray[Any] = session.run(None, {**sample, _GATES: gates})[0]
        return output

    return [
        Layer(tuple(sorted({names.get(name, name) for name in each})), sum(work.get(name, 0.0) for name in each), error)
        for each, error in zip(readers, errors_alone(run, len(quantized), samples), strict=True)
    ]


def bypass(model: onnx_ir.Model, chosen: Sequence[int]) -> None:
    """Take these pairs out, in place, and those of their readers' weights."""
    quantized = pairs(model.graph)
    for pair in (quantized[index] for index in chosen):
        for node in pair.readers:
            node.replace_input_with(1, _weights(node))
        pair.dequantize.outputs[0].replace_all_uses_with(pair.source)
    RemoveUnusedNodesPass()(model)


def _write_pairs(source: Path, target: Path, samples: Sequence[Feed]) -> None:
    """Pairs before all that multiplies by weights; attention's own products have none."""
    model = load_widened(source)
    multiplied = [
        str(node.name)
        for node in model.graph
        if node.op_type in _MULTIPLIES and node.inputs[1] is not None and node.inputs[1].is_initializer()
    ]
    whole = target.with_name("whole.onnx")
    onnx_ir.save(model, whole, external_data=f"{whole.name}.data")
    del model  # gigabytes, which the library reads again
    with _quiet():
        quantize_static(
            whole,
            target,
            _Calls(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_MULTIPLIES),
            nodes_to_quantize=multiplied,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options=_FOR_TENSORRT,
        )
    model = onnx_ir.load(target)
    for pair in pairs(model.graph):  # the library gives a pair's values to all that read the activation
        for use in list(pair.dequantize.outputs[0].uses()):
            if use.idx > 0 or _weights(use.node) is None:
                use.node.replace_input_with(use.idx, pair.source)
    onnx_ir.save(model, target)  # its weights are where they were


class _Calls(CalibrationDataReader):  # type: ignore[misc]
    """Recorded calls, as the library asks for them."""

    def __init__(self, samples: Sequence[Feed]) -> None:
        self._left = iter(samples)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        sample = next(self._left, None)
        return None if sample is None else dict(sample)


def _gate(graph: onnx_ir.Graph, pairs: Sequence[ActivationPair]) -> None:
    """x -> x + gate * (quantized x - x) for every pair; a new input `gates` float32 [pairs]."""
    gates = onnx_ir.val(_GATES, onnx_ir.DataType.FLOAT, [len(pairs)])
    graph.inputs.append(gates)
    for index, pair in enumerate(pairs):
        quantized = pair.dequantize.outputs[0]
        readers = [(use.node, use.idx) for use in quantized.uses()]
        which = onnx_ir.val(f"gate_{index}", const_value=onnx_ir.tensor(np.int64(index), name=f"gate_{index}"))
        graph.initializers.add(which)
        gate = onnx_ir.node("Gather", [gates, which])
        change = onnx_ir.node("Sub", [quantized, pair.source])
        gated = onnx_ir.node("Mul", [change.outputs[0], gate.outputs[0]])
        mixed = onnx_ir.node("Add", [pair.source, gated.outputs[0]])
        graph.insert_after(pair.dequantize, [gate, change, gated, mixed])
        for node, position in readers:
            node.replace_input_with(position, mixed.outputs[0])


def _work(source: Path, sample: Feed) -> dict[str, float]:
    """Each multiplying node's share of the multiplications for a sample."""
    model = onnx_ir.load(source)
    for value in model.graph.inputs:
        value.shape = onnx_ir.Shape(sample[str(value.name)].shape)
    fold_constants(model, onnx_shape_inference=True)
    counts = {}
    for node in model.graph:
        if node.op_type in _MULTIPLIES:
            inner = _shape(node.inputs[1])[1:] if node.op_type == "Conv" else _shape(node.inputs[0])[-1:]
            counts[str(node.name)] = float(np.prod(_shape(node.outputs[0])) * np.prod(inner))
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}


def _shape(value: onnx_ir.Value | None) -> tuple[int, ...]:
    assert value is not None  # noqa: S101  (an input that the operator must have)
    assert value.shape is not None, value  # noqa: S101  (all shapes follow from the inputs')
    return value.shape.numpy()


def _keep_scales_above_zero(graph: onnx_ir.Graph) -> None:
    """A channel of almost nothing has a scale that float16 would round to zero."""
    for node in graph:
        scale = node.inputs[1] if node.op_type == "QuantizeLinear" else None
        if scale is not None and scale.const_value is not None:
            kept = np.maximum(scale.const_value.numpy(), np.float32(_SMALLEST))
            scale.const_value = onnx_ir.tensor(kept, name=scale.name)


def _weights(node: onnx_ir.Node) -> onnx_ir.Value | None:
    """The weights that a node multiplies by and that have a pair; None for one without."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        producer = value.producer() if value is not None else None
        value = producer.inputs[0] if producer is not None and producer.op_type == kind else None
    return value if _is_weights(value) else None


def _is_weights(value: onnx_ir.Value | None) -> bool:
    return value is not None and value.is_initializer()


@contextmanager
def _quiet() -> Iterator[None]:
    """The library recommends a preparation of its own, which folds and fuses what export has folded already."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger().setLevel(level)
