"""ONNX -> OpenVINO IR with the same bytes on every run: own names, no paths, weights in fp16 where lossless."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import openvino
from openvino import opset15

from model_build.compile import Engine
from model_build.graphs.weights import lossless_half


def compile_component(graph: Path, folder: Path, component: str) -> None:
    """Write `{component}.xml` (opened) and `{component}.bin` (its weights) into `folder`."""
    write(openvino.convert_model(graph), folder, component)


def write(model: openvino.Model, folder: Path, component: str) -> None:
    """Save a converted model as `compile_component` says."""
    _halve_weights(model)
    _name_nodes(model)
    model.set_friendly_name(component)
    for key in list(model.get_rt_info()):  # the path it was converted from
        del model.get_rt_info()[key]
    openvino.save_model(model, folder / f"{component}.xml", compress_to_fp16=False)


def open_component(path: Path, options: Mapping[str, str], threads: int) -> Engine:
    """Load IR on the CPU; `options` are the plugin's properties, such as INFERENCE_PRECISION_HINT."""
    compiled = openvino.Core().compile_model(path, "CPU", {**options, "INFERENCE_NUM_THREADS": threads})
    return lambda inputs: list(compiled(inputs).values())


def _halve_weights(model: openvino.Model) -> None:
    """The converter folds our Casts back into float32 constants; `compress_to_fp16` would round the rest as well."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32 or node.data.size < 2:
            continue
        half = lossless_half(node.data)
        if half is None:
            continue
        cast = opset15.convert(opset15.constant(half), "f32")
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(cast.output(0))


def _name_nodes(model: openvino.Model) -> None:
    """Number nodes by place: the library's own numbers count all nodes this process ever made."""
    for index, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        if kind == "Parameter":
            continue
        node.set_friendly_name(f"{kind}_{index}")
        if kind == "Result":  # its names are those that the graph's output is asked for by
            continue
        for output in node.outputs():
            if all(reader.get_node().get_type_name() != "Result" for reader in output.get_target_inputs()):
                output.set_names(set())
