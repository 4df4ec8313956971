"""What makes a provider write a context engine, by names the pinned library has; what it wrote is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from darkroom.bundles.fingerprint import Profile
from darkroom.gpu import TENSORRT, Gpu, wheel_facts
from model_build import BuildRefused
from model_build.compile import context
from model_build.compile.context import Context, compile_context, instructions, shapes
from model_build.compile.device import Device, compiled_for
from model_build.compile.targets import GPU_TARGETS

GPU = Gpu("NVIDIA A10", "sm86", 24 << 30, "13.0")
PROFILE = Profile(rows=(1, 2, 8), height=(8, 64, 128), width=(8, 64, 96))
SHAPES = {"latents": ([1, 4, 8, 8], [2, 4, 64, 64], [8, 4, 128, 96]), "timestep": ([1], [2], [8])}


def made(target: str, folder: Path, *, stripped: bool = False) -> Context:
    spec = compiled_for(Device(GPU, "1.31.1", "13.0", "10.16.1"), GPU_TARGETS[target], stripped=stripped)
    return Context(spec.provider, "unet-0123", spec.options, SHAPES, folder)


@pytest.mark.parametrize("target", ["tensorrt-fp16", "tensorrt-bf16", "tensorrt-int8"])
@pytest.mark.parametrize("stripped", [False, True])
def test_tensorrt_is_told_only_what_it_knows(tmp_path: Path, target: str, stripped: bool) -> None:
    options, entries = instructions(made(target, tmp_path, stripped=stripped), tmp_path / "unet_ctx.onnx")
    assert options.keys() <= set(wheel_facts()["options"][TENSORRT])
    assert entries.keys() <= set(wheel_facts()["keys"])
    assert options["trt_ep_context_embed_mode"] == "0"
    assert options["trt_engine_cache_prefix"] == "unet-0123"
    assert options["trt_timing_cache_path"] == str(tmp_path)
    assert options["trt_profile_min_shapes"] == "latents:1x4x8x8,timestep:1"
    assert options["trt_profile_opt_shapes"] == "latents:2x4x64x64,timestep:2"
    assert options["trt_profile_max_shapes"] == "latents:8x4x128x96,timestep:8"
    assert ("trt_weight_stripped_engine_enable" in options) is stripped


@pytest.mark.parametrize(("target", "left_alone"), [("tensorrt-fp16", False), ("tensorrt-int8", True)])
def test_onnxruntime_leaves_pairs_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, left_alone: bool
) -> None:
    def write(_: Path, settings: onnxruntime.SessionOptions, *__: Any) -> None:
        off = settings.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        assert off is left_alone
        context_model(tmp_path, "unet.engine")
        (tmp_path / "unet.engine").touch()

    monkeypatch.setattr(context, "open_session", write)
    monkeypatch.setattr(context.gpu, "preload", lambda *_: None)
    compile_context(graph(tmp_path, latents=[1]), tmp_path, "unet", made(target, tmp_path))


def test_another_provider_follows_session_entries(tmp_path: Path) -> None:
    told = Context("OpenVINOExecutionProvider", "unet", {"provider": "OpenVINOExecutionProvider", "device_type": "CPU"})
    options, entries = instructions(told, tmp_path / "unet_ctx.onnx")
    assert options == {"device_type": "CPU"}
    assert entries.keys() <= set(wheel_facts()["keys"])
    assert entries["ep.context_file_path"] == str(tmp_path / "unet_ctx.onnx")


def graph(folder: Path, **inputs: list[int | str]) -> Path:
    """An ONNX file with these inputs, and nothing in it."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    onnx.save(helper.make_model(helper.make_graph([], "empty", values, [])), folder / "graph.onnx")
    return folder / "graph.onnx"


def test_the_profile_of_each_component(tmp_path: Path) -> None:
    latents: list[int | str] = ["rows", 4, "height", "width"]
    unet = graph(tmp_path, latents=latents, timestep=["rows"], prompt_embeds=["rows", 77, 768])
    assert shapes(unet, PROFILE, 8) == {**SHAPES, "prompt_embeds": ([1, 77, 768], [2, 77, 768], [8, 77, 768])}
    assert shapes(graph(tmp_path, input_ids=["rows", 77]), PROFILE, 8) == {"input_ids": ([1, 77], [2, 77], [2, 77])}
    image = graph(tmp_path, image=["rows", 3, "image_height", "image_width"])
    assert shapes(image, PROFILE, 8)["image"] == ([1, 3, 64, 64], [1, 3, 512, 512], [1, 3, 1024, 768])


def test_residuals_of_controlnets_shrink_with_the_latents(tmp_path: Path) -> None:
    found = shapes(graph(tmp_path, timestep=["rows"], mid_residual=["rows", 32, "height_8", "width_3"]), PROFILE, 8)
    assert found["mid_residual"] == ([1, 32, 1, 3], [2, 32, 8, 22], [8, 32, 16, 32])


def test_an_axis_without_bounds(tmp_path: Path) -> None:
    with pytest.raises(BuildRefused, match=r"^The shape profile says nothing of the axis frames of latents\.$"):
        shapes(graph(tmp_path, latents=["rows", "frames"]), PROFILE, 8)


def test_a_provider_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BuildRefused, match=r"^This ONNX Runtime has no TensorrtExecutionProvider; "):
        compile_context(graph(tmp_path, latents=[1]), tmp_path, "unet", made("tensorrt-fp16", tmp_path))


def context_model(folder: Path, *files: str, embedded: bool = False) -> None:
    nodes = [
        helper.make_node(
            "EPContext", [], [f"y{i}"], domain="com.microsoft", ep_cache_context=file, embed_mode=int(embedded)
        )
        for i, file in enumerate(files)
    ]
    onnx.save(helper.make_model(helper.make_graph(nodes, "ctx", [], [])), folder / "unet_ctx.onnx")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ((), "takes only a part of the unet: 0 pieces are left"),
        (("a.engine", "b.engine"), "takes only a part of the unet: 2 pieces are left"),
        (("lost.engine",), "wrote no engine file of the unet beside its model"),
        (("../a.engine",), "wrote no engine file of the unet beside its model"),
    ],
)
def test_what_was_written_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "a.engine").touch()
    monkeypatch.setattr(context, "open_session", lambda *_: context_model(tmp_path, *files))
    told = Context("CPUExecutionProvider", "unet", {})
    with pytest.raises(BuildRefused, match=sentence):
        compile_context(graph(tmp_path, latents=[1]), tmp_path, "unet", told)


def test_a_stripped_engine_brings_its_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = tmp_path / "source", tmp_path / "made"
    source.mkdir()
    folder.mkdir()
    for name in ("unet.onnx", "unet.onnx.data"):
        (source / name).write_bytes(name.encode())

    def write(*_: Any) -> None:
        context_model(folder, "unet.engine")
        (folder / "unet.engine").touch()

    monkeypatch.setattr(context, "open_session", write)
    told = Context("CPUExecutionProvider", "unet", {"trt_weight_stripped_engine_enable": "1"})
    compile_context(source / "unet.onnx", folder, "unet", told)
    assert {path.name for path in folder.iterdir()} == {"unet.onnx", "unet.onnx.data", "unet.engine", "unet_ctx.onnx"}
