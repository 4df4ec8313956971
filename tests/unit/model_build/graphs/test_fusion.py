"""Fused graphs compute what they did: contrib kernels in numpy stand for CUDA's, of which the CPU has few."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.loading import load
from model_build.graphs import fusion
from model_build.graphs.export import component_graph, export
from model_build.graphs.fusion import DOMAIN, fuse
from model_build.graphs.optimize import optimize
from tests.tiny_checkpoint import write_tiny_lcm, write_tiny_xl

KINDS = {"lcm": write_tiny_lcm, "sdxl": write_tiny_xl}
COMPONENTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
ON_CPU = {"MultiHeadAttention", "SkipLayerNormalization", "QuickGelu"}  # these have CPU kernels in ONNX Runtime


def group_norm(x: Any, scale: Any, bias: Any, groups: int, epsilon: float, activation: int) -> Any:
    """Over channels-last [n, h, w, C]; ONNX Runtime's contrib operator, with SiLU where `activation` is 1."""
    n, h, w, channels = x.shape
    parts = x.astype(np.float32).reshape(n, h * w, groups, channels // groups)
    mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    y = ((parts - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * scale + bias
    return (y / (1 + np.exp(-y)) if activation else y).astype(x.dtype)


class GroupNorm(OpRun):
    op_domain = DOMAIN

    def _run(self, x, scale, bias, activation=0, channels_last=1, epsilon=1e-5, groups=1):
        return (group_norm(x, scale, bias, groups, epsilon, activation),)


class SkipGroupNorm(OpRun):
    op_domain = DOMAIN

    def _run(self, x, scale, bias, skip, add=None, activation=0, channels_last=1, epsilon=1e-5, groups=1):
        added = np.zeros(1, x.dtype) if add is None else add
        skipped = x + skip.reshape(len(x), *(skip.shape[1:] if skip.ndim == 4 else (1, 1, skip.shape[-1]))) + added
        found = (group_norm(skipped, scale, bias, groups, epsilon, activation), skipped)
        return found[: len(self.onnx_node.output)]


class NhwcConv(OpRun):
    op_domain = DOMAIN

    def _run(self, x, weights, bias=None, pads=None, strides=None, **_: Any):
        top, left, bottom, right = pads
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, weights.shape[1:3], (1, 2))
        windows = windows[:, :: strides[0], :: strides[1]]  # [n, h, w, C, kh, kw]
        y = np.einsum("nhwckl,oklc->nhwo", windows, weights, optimize=True)
        return ((y + bias).astype(x.dtype),)


class BiasAdd(OpRun):
    op_domain = DOMAIN

    def _run(self, x, bias, skip):
        return (x + bias + skip,)


class BiasSplitGelu(OpRun):
    op_domain = DOMAIN

    def _run(self, x, bias):
        from scipy.special import erf

        value, gate = np.split(x + bias, 2, axis=-1)
        return ((value * (gate * 0.5 * (1 + erf(gate / np.sqrt(2))))).astype(x.dtype),)


class OnCpu(OpRun):
    """One node run by ONNX Runtime itself."""

    op_domain = DOMAIN

    def _run(self, *inputs: Any, **_: Any):
        fed = {name: value for name, value in zip(self.onnx_node.input, inputs, strict=True) if value is not None}
        kinds = {np.dtype(np.float32): onnx.TensorProto.FLOAT, np.dtype(np.float16): onnx.TensorProto.FLOAT16}
        graph = onnx.helper.make_graph(
            [self.onnx_node],
            "one",
            [onnx.helper.make_tensor_value_info(name, kinds[value.dtype], None) for name, value in fed.items()],
            [onnx.helper.make_empty_tensor_value_info(name) for name in self.onnx_node.output if name],
        )
        opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(DOMAIN, 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found = dict(zip((output.name for output in session.get_outputs()), session.run(None, fed), strict=True))
        unnamed = np.zeros(0, np.float32)  # an output left out
        return tuple(found.get(name, unnamed) for name in self.onnx_node.output)


KERNELS = [
    *(GroupNorm, SkipGroupNorm, NhwcConv, BiasAdd, BiasSplitGelu),
    *(type(name, (OnCpu,), {}) for name in sorted(ON_CPU)),
]


@pytest.fixture(scope="module")
def graphs(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each component of the tiny checkpoint, exported and optimised as a build does."""
    folder = tmp_path_factory.mktemp("graphs")
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    pipeline = load(checkpoint)
    for component in COMPONENTS:
        export(component_graph(component, checkpoint, pipeline), folder / f"exported-{component}.onnx")
        optimize(folder / f"exported-{component}.onnx", folder / f"{component}.onnx")
    return folder


@pytest.fixture(scope="module", params=KINDS)
def of_kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text encoder and the UNet of a checkpoint of another kind."""
    folder = tmp_path_factory.mktemp(request.param)
    checkpoint = open_checkpoint(str(KINDS[request.param](folder / "checkpoint")))
    pipeline = load(checkpoint)
    for component in ("text_encoder", "unet"):
        export(component_graph(component, checkpoint, pipeline), folder / f"exported-{component}.onnx")
        optimize(folder / f"exported-{component}.onnx", folder / f"{component}.onnx")
    return folder


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny checkpoint's gated GELUs are narrower than the kernel is made for."""
    monkeypatch.setattr(fusion, "_GATED", (64, 128))


def inputs(component: str) -> dict[str, Any]:
    random = np.random.Generator(np.random.Philox(0))

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape, np.float32)

    return {
        "text_encoder": {"input_ids": random.integers(0, 500, (2, 77))},
        "unet": {
            "latents": normal(2, 4, 8, 6),
            "timestep": np.array([999, 421.5], np.float32),
            "prompt_embeds": normal(2, 77, 32),
        },
        "vae_decoder": {"latents": normal(1, 4, 3, 2)},
        "vae_encoder": {"image": normal(1, 3, 16, 24)},
    }[component]


def drawn(graph: Path) -> dict[str, Any]:
    """Inputs of any graph of ours, by the shapes it declares."""
    random, sizes = np.random.Generator(np.random.Philox(0)), {"rows": 2, "height": 8, "width": 6}
    found: dict[str, Any] = {}
    for entry in onnx.load(graph, load_external_data=False).graph.input:
        shape = [sizes.get(dim.dim_param, dim.dim_value) for dim in entry.type.tensor_type.shape.dim]
        whole = entry.type.tensor_type.elem_type == onnx.TensorProto.INT64
        found[entry.name] = random.integers(0, 500, shape) if whole else random.standard_normal(shape, np.float32)
    return found


def plain(path: Path, feeds: dict[str, Any]) -> list[Any]:
    return list(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds))


def worst(found: list[Any], wanted: list[Any]) -> float:
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_fused_graph_computes_the_same(graphs: Path, tmp_path: Path, component: str) -> None:
    fuse(graphs / f"{component}.onnx", tmp_path / "fused.onnx", component, half=False)
    found = ReferenceEvaluator(str(tmp_path / "fused.onnx"), new_ops=KERNELS).run(None, inputs(component))
    assert worst(found, plain(graphs / f"{component}.onnx", inputs(component))) < 1e-4


@pytest.mark.parametrize("component", COMPONENTS)
def test_in_half_it_computes_nearly_the_same(graphs: Path, tmp_path: Path, component: str) -> None:
    fuse(graphs / f"{component}.onnx", tmp_path / "fused.onnx", component, half=True)
    model = onnx.load(tmp_path / "fused.onnx")
    kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}, "the border stays float32"
    wide = [weights for weights in model.graph.initializer if weights.data_type == onnx.TensorProto.FLOAT]
    assert sum(np.prod(weights.dims) for weights in wide) < 2000, "all but normalisations' scales is in half"
    found = ReferenceEvaluator(model, new_ops=KERNELS).run(None, inputs(component))
    assert worst(found, plain(graphs / f"{component}.onnx", inputs(component))) < 1e-2


@pytest.mark.parametrize("component", ["text_encoder", "unet"])
def test_sdxl_and_lcm_are_fused_and_compute_the_same(of_kind: Path, tmp_path: Path, component: str) -> None:
    given = drawn(of_kind / f"{component}.onnx")
    wanted = plain(of_kind / f"{component}.onnx", given)
    for half, most in ((False, 1e-4), (True, 1e-2)):
        fused = fuse(of_kind / f"{component}.onnx", tmp_path / "fused.onnx", component, half=half)
        found = ReferenceEvaluator(str(tmp_path / "fused.onnx"), new_ops=KERNELS).run(None, given)
        assert worst(found, wanted) < most
        assert fused["SkipLayerNormalization"]
        if component == "unet":
            assert {"BiasSplitGelu", "GroupNorm", "MultiHeadAttention", "NhwcConv", "SkipGroupNorm"} <= fused.keys()
            left = {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node}
            assert not left & {"Softmax", "InstanceNormalization", "Gelu", "Conv"}


def test_how_many_of_each_kernel(graphs: Path, tmp_path: Path) -> None:
    found = fuse(graphs / "unet.onnx", tmp_path / "fused.onnx", "unet", half=True)
    assert found == {
        "BiasAdd": 4,
        "BiasSplitGelu": 4,
        "GroupNorm": 6,
        "MultiHeadAttention": 8,
        "NhwcConv": 33,
        "SkipGroupNorm": 15,
        "SkipLayerNormalization": 8,
    }
    left = {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node}
    assert not left & {"Softmax", "InstanceNormalization", "Gelu", "Conv"}


def test_what_the_gelu_kernel_is_not_made_for_is_left(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "_GATED", (1280, 2560, 5120))
    monkeypatch.setattr(fusion, "_WIDEST_HEAD", 4)
    found = fuse(graphs / "unet.onnx", tmp_path / "fused.onnx", "unet", half=False)
    assert "BiasSplitGelu" not in found
    assert "MultiHeadAttention" not in found


def test_sines_are_computed_in_float32(graphs: Path, tmp_path: Path) -> None:
    fuse(graphs / "unet.onnx", tmp_path / "fused.onnx", "unet", half=True)
    nodes = list(onnx.load(tmp_path / "fused.onnx", load_external_data=False).graph.node)
    makers = {name: node for node in nodes for name in node.output}

    def before(names: list[str]) -> Iterator[onnx.NodeProto]:
        for name in names:
            if name in makers:
                yield makers[name]
                yield from before(list(makers[name].input))

    sine = next(node for node in nodes if node.op_type == "Sin")
    assert "Cast" not in {node.op_type for node in before(list(sine.input))}


def test_the_same_bytes_on_every_run(graphs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fuse(graphs / "vae_decoder.onnx", tmp_path / name / "fused.onnx", "vae_decoder", half=True)
    for file in ("fused.onnx", "fused.onnx.data"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
