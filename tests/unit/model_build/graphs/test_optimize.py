"""Weights are halved where float16 holds them exactly, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_build.compile.formats import engine_format
from model_build.graphs.optimize import optimize
from model_build.graphs.weights import lossless_half

RANDOM = np.random.Generator(np.random.Philox(0))
EXACT = RANDOM.standard_normal((64, 64)).astype(np.float16).astype(np.float32)
INEXACT = RANDOM.standard_normal((64, 64)).astype(np.float32)


@pytest.mark.parametrize(
    "exact", [EXACT, np.array([0.0, -0.0, 65504.0, 2.0**-24], np.float32), np.zeros(0, np.float32)]
)
def test_what_float16_holds(exact: np.ndarray) -> None:
    half = lossless_half(exact)
    assert half is not None
    assert half.dtype == np.float16
    assert np.array_equal(half.astype(np.float32), exact)


@pytest.mark.parametrize("values", [[0.1, 1.0], [65505.0, 1.0], [1e9, 1.0], [2.0**-25, 1.0], [np.nan, 1.0]])
def test_what_float16_does_not_hold(values: list[float]) -> None:
    assert lossless_half(np.array(values, np.float32)) is None


def two_products(folder: Path) -> Path:
    """y = x @ exact @ inexact, as exported: weights beside the graph."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "exact"], ["h"]), helper.make_node("MatMul", ["h", "inexact"], ["y"])],
        "two_products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 64])],
        [numpy_helper.from_array(EXACT, "exact"), numpy_helper.from_array(INEXACT, "inexact")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "two_products.onnx"
    onnx.save(model, path, save_as_external_data=True, location="two_products.onnx.data", size_threshold=0)
    return path


@pytest.fixture
def optimized(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    source = two_products(before)
    optimize(source, after / source.name)
    return source, after / source.name


def test_only_exact_weights_are_halved(optimized: tuple[Path, Path]) -> None:
    _, target = optimized
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(target).graph.initializer}
    assert sorted(stored.values()) == [TensorProto.FLOAT, TensorProto.FLOAT16]
    assert stored["inexact"] == TensorProto.FLOAT
    assert target.with_name("two_products.onnx.data").stat().st_size < 64 * 64 * (4 + 2) + 8192


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_engines_compute_as_before(optimized: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    source, target = optimized
    x = RANDOM.standard_normal((5, 64)).astype(np.float32)
    (wanted,) = engine_format("onnxruntime").open_component(source, {}, 1)({"x": x})
    made = tmp_path / name
    made.mkdir()
    engine_format(name).compile_component(target, made, "two_products")  # type: ignore[arg-type]
    (entry,) = [path for path in made.iterdir() if path.suffix in (".onnx", ".xml")]
    assert sum(path.stat().st_size for path in made.iterdir()) < 64 * 64 * (4 + 2) + 16384
    options = {"INFERENCE_PRECISION_HINT": "f32"} if name == "openvino" else {}
    (found,) = engine_format(name).open_component(entry, options, 1)({"x": x})  # type: ignore[arg-type]
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
