"""Pairs where TensorRT takes them, around what int8 does not hurt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from model_build.int8.qdq import write_int8
from model_build.int8.sensitivity import Feed
from model_build.proof.psnr import psnr
from tests.quantized import quantized_layers

_WIDTH = 32


def weights(name: str, *shape: int) -> onnx_ir.Value:
    drawn = np.random.Generator(np.random.Philox(len(name) + shape[0])).standard_normal(shape, np.float32)
    drawn /= np.sqrt(np.prod(shape[1:]))
    drawn[0] *= 1e-6  # a channel whose scale is nothing to float16
    return onnx_ir.val(name, const_value=onnx_ir.tensor(drawn, name=name))


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    """Convolutions, and between them attention over the pixels with its residual, as in a UNet."""
    latents = onnx_ir.val("latents", onnx_ir.DataType.FLOAT, ["rows", 4, "height", "width"])
    kept = {
        name: weights(f"unet.{name}.weight", *shape)
        for name, shape in {
            "conv_in": (_WIDTH, 4, 3, 3),
            **dict.fromkeys(("to_q", "to_k", "to_out"), (_WIDTH, _WIDTH)),
            "conv_out": (4, _WIDTH, 3, 3),
        }.items()
    }
    kept |= {
        "bias": weights("unet.conv_in.bias", _WIDTH),
        "flat": onnx_ir.val("flat", const_value=onnx_ir.tensor(np.array([0, _WIDTH, -1]), name="flat")),
        "shape": onnx_ir.val("shape", const_value=onnx_ir.tensor(np.array([0, _WIDTH, 8, 8]), name="shape")),
    }
    nodes: list[onnx_ir.Node] = []

    def add(kind: str, *inputs: onnx_ir.Value, name: str | None = None, **attributes: Any) -> onnx_ir.Value:
        nodes.append(onnx_ir.node(kind, list(inputs), attributes, name=name or f"{kind}_{len(nodes)}"))
        return nodes[-1].outputs[0]

    padded = {"pads": [1, 1, 1, 1]}
    value = add("Conv", latents, kept["conv_in"], kept["bias"], name="conv_in", **padded)
    value = add("Transpose", add("Reshape", value, kept["flat"]), perm=[0, 2, 1])
    query, key = (add("MatMul", value, kept[name], name=name) for name in ("to_q", "to_k"))
    scores = add("Softmax", add("MatMul", query, add("Transpose", key, perm=[0, 2, 1]), name="scores"), axis=-1)
    value = add("Add", value, add("MatMul", add("MatMul", scores, value, name="mixed"), kept["to_out"], name="to_out"))
    value = add("Reshape", add("Transpose", value, perm=[0, 2, 1]), kept["shape"])
    value = add("Conv", value, kept["conv_out"], name="conv_out", **padded)
    value.name, value.type = "noise_pred", onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    value.shape = onnx_ir.Shape(["rows", 4, "height", "width"])
    graph = onnx_ir.Graph([latents], [value], nodes=nodes, initializers=kept.values(), opset_imports={"": 20}, name="g")
    onnx_ir.save(onnx_ir.Model(graph, ir_version=10), tmp_path / "unet.onnx", external_data="unet.onnx.data")
    return tmp_path / "unet.onnx"


def calls(loudest: float = 1.0) -> list[Feed]:
    """Latents of which one is so many times the others, which then are nothing to 255 equal steps."""
    random = np.random.Generator(np.random.Philox(1))
    found = [random.standard_normal((1, 4, 8, 8), np.float32) for _ in range(8)]
    for latents in found:
        latents[..., 0, 0] *= loudest
    return [{"latents": latents} for latents in found]


def run(path: Path, samples: list[Feed]) -> np.ndarray[Any, Any]:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, settings)
    return np.concatenate([session.run(None, dict(sample))[0] for sample in samples])


def written(unet: Path, samples: list[Feed]) -> tuple[Path, dict[str, Any]]:
    target = unet.parent / "int8" / "unet.onnx"
    target.parent.mkdir()
    told = write_int8(unet, target, samples, threads=1)
    assert {path.name for path in target.parent.iterdir()} == {"unet.onnx", "unet.onnx.data"}
    return target, told


def left_out(told: dict[str, Any]) -> set[str]:
    return {name for layer in told["left_out"] for name in layer["layers"]}


def test_what_multiplies_by_weights_has_its_pairs_and_the_rest_is_half(unet: Path, monkeypatch) -> None:
    monkeypatch.setattr("model_build.int8.qdq.left_out", lambda _: [])
    target, told = written(unet, calls())
    assert quantized_layers(target) == ["conv_in", "to_q", "to_k", "to_out", "conv_out"]
    assert (told["quantized"], told["left_out"]) == (4, []), "query and key share a pair"
    model = onnx.load(target)
    kinds = {each.data_type for each in model.graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds
    (add,) = [node for node in model.graph.node if node.op_type == "Add"]
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert [makers[name] for name in add.input] == ["Transpose", "MatMul"], "what is added is not rounded"


def test_its_output_is_nearly_the_same(unet: Path) -> None:
    target, _ = written(unet, calls())
    wanted, found = run(unet, calls()), run(target, calls())
    assert 25 < psnr(wanted, found, peak=float(np.abs(wanted).max())) < 80


def test_what_int8_hurts_most_stays_in_half_with_its_weights(unet: Path, monkeypatch) -> None:
    monkeypatch.setattr("model_build.int8.sensitivity._MAX_WORK_OUT", 0.5)  # each layer of so few is a large part
    target, told = written(unet, calls(loudest=3000.0))
    assert "unet.conv_in" in left_out(told)
    assert quantized_layers(target) == [
        name for name in ("conv_in", "to_q", "to_k", "to_out", "conv_out") if f"unet.{name}" not in left_out(told)
    ]
    assert sum(layer["work_share"] for layer in told["left_out"]) <= 0.5
