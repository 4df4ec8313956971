"""What graphs need of memory, reckoned by hand, and the refusal of what a GPU cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_build import BuildRefused
from model_build.compile.preflight import Need, need, refuse_what_does_not_fit

GIB = 1 << 30


def graph(folder: Path, nodes: list[onnx.NodeProto], weights: dict[str, list[int]]) -> Path:
    sides = ["rows", 4, "height", "width"]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "g.onnx")
    return folder / "g.onnx"


def test_the_most_that_is_alive_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),  # x and a: 4 + 16 channels
        helper.make_node("Relu", ["a"], ["b"]),  # a and b: 16 + 16
        helper.make_node("Conv", ["b", "v"], ["c"], pads=[1, 1, 1, 1]),  # a is kept for the sum: 16 + 16 + 16
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    path = graph(tmp_path, nodes, {"w": [16, 4, 3, 3], "v": [16, 16, 3, 3]})
    found = need(path, {"x": [2, 4, 10, 6]}, itemsize=2)
    assert found == Need(weights=2 * (16 * 4 * 9 + 16 * 16 * 9), activations=2 * 48 * 2 * 10 * 6)
    assert need(path, {"x": [4, 4, 10, 6]}, itemsize=4).activations == 4 * found.activations


def test_views_and_the_scores_of_attention_take_nothing(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "r"], ["scores"]),  # [rows, hw, hw]
        helper.make_node("Softmax", ["scores"], ["shares"]),
        helper.make_node("MatMul", ["r", "shares"], ["y"]),
    ]
    path = graph(tmp_path, nodes, {})
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 4, -1], np.int64), "flat"))
    onnx.save(model, path)
    assert need(path, {"x": [1, 4, 32, 32]}, itemsize=2).activations == 2 * 2 * 4 * 1024


def test_a_build_that_cannot_fit_is_refused_with_numbers() -> None:
    needs = {"unet": Need(5 * GIB, 8 * GIB), "vae_decoder": Need(0, 3 * GIB)}
    refuse_what_does_not_fit("tensorrt-fp16-sm86", needs, 24 * GIB, "NVIDIA A10", "8 rows")
    with pytest.raises(BuildRefused) as refused:
        refuse_what_does_not_fit("tensorrt-fp16-sm86", needs, 16 * GIB, "NVIDIA T4", "8 rows at 1024x1024")
    assert str(refused.value) == (
        "tensorrt-fp16-sm86 would take about 17.0 GiB of memory (5.0 of weights, 11.0 for 8 rows at 1024x1024, "
        "1.0 for CUDA), and NVIDIA T4 has 16.0 GiB; lower --rows, --max-size, --max-pixels."
    )


def test_each_cuda_graph_of_tensorrt_takes_the_unet_once_more() -> None:
    """Its session reads the engine file again: weights and working memory are its own."""
    needs = {"unet": Need(5 * GIB, 2 * GIB), "vae_decoder": Need(1 * GIB, 1 * GIB)}
    told = ("tensorrt-fp16-sm86", needs)
    refuse_what_does_not_fit(*told, 10 * GIB, "NVIDIA A10", "8 rows")
    refuse_what_does_not_fit(*told, 24 * GIB, "NVIDIA A10", "8 rows", graphs=2)
    with pytest.raises(
        BuildRefused, match=r" about 24\.0 GiB .* 14\.0 for 2 CUDA graphs of the UNet, .* or --graphs\.$"
    ):
        refuse_what_does_not_fit(*told, 24 * GIB - 1, "NVIDIA A10", "8 rows", graphs=2)
