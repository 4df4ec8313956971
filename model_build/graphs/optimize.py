"""Optimise: graph passes over exported ONNX. The exporter has folded constants; here weights are halved if lossless."""

from __future__ import annotations

from pathlib import Path

import onnx_ir

from model_build.graphs.weights import lossless_half


def optimize(source: Path, target: Path) -> None:
    """Read ONNX from `source`, run every pass, write to `target` with weights in `{target}.data`."""
    model = onnx_ir.load(source)
    halve_weights(model)
    onnx_ir.save(model, target, external_data=f"{target.name}.data")


def halve_weights(model: onnx_ir.Model) -> None:
    """Store float32 initializers as float16 followed by a Cast, where that is lossless.

    Engines fold the Cast when they load, so computation stays float32 and only the file is smaller.
    """
    graph = model.graph
    first = graph[0]
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != onnx_ir.DataType.FLOAT or tensor.size < 2 or value.is_graph_output():
            continue
        half = lossless_half(tensor.numpy())
        if half is None:
            continue
        stored = onnx_ir.Value(
            name=f"{name}.half",
            shape=value.shape,
            type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT16),
            const_value=onnx_ir.tensor(half, name=f"{name}.half"),
        )
        cast = onnx_ir.node("Cast", [stored], {"to": int(onnx_ir.DataType.FLOAT)}, name=f"{name}.cast")
        value.replace_all_uses_with(cast.outputs[0])
        cast.outputs[0].name = f"{name}.single"
        graph.insert_before(first, cast)
        del graph.initializers[name]
        graph.initializers.add(stored)
