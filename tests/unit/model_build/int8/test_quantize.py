"""A decoder whose images int8 would spoil multiplies in floating point; one that bears it in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import openvino
import pytest

from model_build.int8.quantize import quantize

CHANNELS = 16


def decoder(folder: Path) -> Path:
    """Two convolutions."""
    random = np.random.Generator(np.random.Philox(0))
    first = random.standard_normal((CHANNELS, 4, 3, 3), np.float32) / 6
    second = random.standard_normal((3, CHANNELS, 3, 3), np.float32) / 18
    latents = onnx_ir.val("latents", onnx_ir.DataType.FLOAT, [1, 4, None, None])
    weights = [
        onnx_ir.val(f"{name}.weight", const_value=onnx_ir.tensor(value, name=f"{name}.weight"))
        for name, value in (("first", first), ("second", second))
    ]
    padded = {"pads": [1, 1, 1, 1]}
    nodes = [onnx_ir.node("Conv", [latents, weights[0]], padded, name="first")]
    nodes.append(onnx_ir.node("Relu", nodes[0].outputs))
    nodes.append(onnx_ir.node("Conv", [nodes[1].outputs[0], weights[1]], padded, name="second"))
    nodes.append(onnx_ir.node("Tanh", [nodes[2].outputs[0]]))
    nodes[-1].outputs[0].name = "image"
    graph = onnx_ir.Graph([latents], nodes[-1].outputs, nodes=nodes, initializers=weights, opset_imports={"": 20})
    path = folder / "vae_decoder.onnx"
    onnx_ir.save(onnx_ir.Model(graph, ir_version=10), path)
    return path


def samples(loudest: float) -> list[dict[str, Any]]:
    """Latents of which one is so many times the others, which then are nothing to 256 equal steps."""
    random = np.random.Generator(np.random.Philox(1))
    found = [random.standard_normal((1, 4, 8, 8), np.float32) for _ in range(4)]
    for latents in found:
        latents[..., 0, 0] *= loudest
    return [{"latents": latents} for latents in found]


@pytest.mark.parametrize(("loudest", "spoilt"), [(1.0, False), (3000.0, True)])
def test_a_decoder_is_in_int8_where_that_shows_little(tmp_path: Path, loudest: float, spoilt: bool) -> None:
    graph, out = decoder(tmp_path), tmp_path / "out"
    out.mkdir()
    told = quantize(graph, out, "vae_decoder", samples(loudest), threads=1)
    assert told["activations"] == ("float" if spoilt else "int8")
    if spoilt:
        assert told["psnr_in_int8"] < 35
    kinds = [node.get_type_name() for node in openvino.Core().read_model(out / "vae_decoder.xml").get_ordered_ops()]
    assert ("FakeQuantize" in kinds) is not spoilt
