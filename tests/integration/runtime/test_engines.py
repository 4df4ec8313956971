"""Real engines on the tiny bundle: images, batches against singles, and determinism."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from darkroom.gpu import CUDA, TENSORRT
from model_build.compile.targets import GPU_TARGETS
from runtime.engines import onnxruntime as engines
from runtime.engines.onnxruntime import load_graphs
from runtime.engines.session import Bounds

TARGETS = ["openvino-fp32", "openvino-bf16", "onnx-cpu"]
PATIENCE = 60
MIXED = [
    {"sampler": "ddim", "num_inference_steps": 8, "guidance_scale": 5.0},
    {"sampler": "euler_a", "num_inference_steps": 5, "guidance_scale": 1.0, "prompt": "a cat"},
    {"sampler": "dpmpp_2m", "num_inference_steps": 6, "guidance_scale": 3.0, "negative_prompt": "red"},
    {"sampler": "lcm", "num_inference_steps": 4, "guidance_scale": 1.5, "seed": 9},
    {"sampler": "euler", "num_inference_steps": 7, "guidance_scale": 7.5, "prompt": ""},
]


def finish(service, *generations) -> list[str]:
    """Turn until all is answered; the SHA-256 of each one's first image."""
    while service.loop.turn():
        pass
    return [generation.answer.result(PATIENCE).images[0].sha256 for generation in generations]


def latents_after(service, *generations) -> list[np.ndarray]:
    """Step to the end, but keep the last latents, which decoding would let go of."""
    kept = {}
    decode = service.loop._decode

    def keep(trajectory, generation) -> None:
        kept[trajectory] = trajectory.latents.copy()
        decode(trajectory, generation)

    service.loop._decode = keep
    finish(service, *generations)
    return [kept[generation.trajectories[0]] for generation in generations]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_made(load, serve, admit, target: str, tmp_path: Path) -> None:
    service = serve(load(target))
    service.warm()
    generation = admit(service, num_images=2, width=64, height=48)
    finish(service, generation)
    images = generation.answer.result(PATIENCE).images
    assert generation.answer.result().target == target
    for image in images:
        with Image.open(io.BytesIO((tmp_path / "images" / image.key).read_bytes())) as opened:
            assert (opened.format, opened.size) == ("PNG", (64, 48))
            assert np.asarray(opened).std() > 1
    assert images[0].sha256 != images[1].sha256


@pytest.mark.parametrize("target", ["openvino-fp32", "onnx-cpu"])
def test_neighbours_change_no_more_than_rounding(load, serve, admit, target: str) -> None:
    service = serve(load(target), max_rows=16)
    alone = [latents_after(service, admit(service, **kind))[0] for kind in MIXED]
    batched = latents_after(service, *(admit(service, **kind) for kind in MIXED))
    for one, other in zip(alone, batched, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("target", TARGETS)
def test_idle_neighbours_give_the_same_bytes_whatever_ran_before(load, serve, admit, target: str) -> None:
    service = serve(load(target))
    kind = {"sampler": "euler_a", "num_inference_steps": 5, "num_images": 3}
    first = finish(service, admit(service, **kind))
    finish(service, *(admit(service, **mixed) for mixed in MIXED))
    finish(service, admit(service, width=32, height=64))
    assert finish(service, admit(service, **kind)) == first


@pytest.mark.parametrize("target", TARGETS)
def test_strict_mode_gives_the_same_bytes_under_load(load, serve, admit, target: str) -> None:
    service = serve(load(target), strict=True)
    alone = [finish(service, admit(service, **kind))[0] for kind in MIXED]
    assert finish(service, *(admit(service, **kind) for kind in MIXED)) == alone


@pytest.mark.parametrize("target", TARGETS)
def test_results_belong_to_the_caller(load, target: str) -> None:
    engine = load(target).engine
    ids = np.full((1, 77), 3, np.int64)
    first = engine.encode(ids)["prompt_embeds"]
    kept = first.copy()
    engine.encode(ids + 1)
    assert np.array_equal(first, kept)
    assert first.dtype == np.float32


@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
def test_the_way_of_a_gpus_sessions_gives_the_same_images(load, monkeypatch, provider: str) -> None:
    """Buffers with fixed addresses, buckets of rows and a session for each shape: all but the provider's name."""
    loaded, told = load("onnx-cpu"), []

    def open_session(path, settings, provider, options):
        told.append((path.name, options))
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(engines, "_DEVICE", "cpu")
    monkeypatch.setattr(engines, "open_session", open_session)
    options = GPU_TARGETS["onnx-cuda-fp16" if provider == CUDA else "tensorrt-fp16"].options
    files = {name: Path(loaded.engine._graphs[name]._session._model_path) for name in loaded.engine._graphs}
    graphs = load_graphs(files, options, 1, Bounds(most_rows=10, graphs=1))
    for rows in (2, 2, 2, 5, 9, 5, 2):
        inputs = _unet_inputs(loaded.manifest, rows)
        (found,), (wanted,) = (each["unet"](inputs).values() for each in (graphs, loaded.engine._graphs))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    unets = [given for name, given in told if name == files["unet"].name]
    graph_option = "enable_cuda_graph" if provider == CUDA else "trt_cuda_graph_enable"
    assert [given.get(graph_option) for given in unets] == (["1"] if provider == CUDA else [None, "1"])


def _unet_inputs(manifest, rows: int) -> dict[str, np.ndarray]:
    random, text = np.random.Generator(np.random.Philox(rows)), manifest.text
    return {
        "latents": random.standard_normal((rows, manifest.latents.channels, 8, 8), np.float32),
        "timestep": random.uniform(0, 999, rows).astype(np.float32),
        "prompt_embeds": random.standard_normal((rows, text.max_length, text.embedding_dim), np.float32),
    }
