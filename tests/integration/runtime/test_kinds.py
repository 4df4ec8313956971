"""SDXL and latent consistency models, built and served: the image is that of diffusers."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from rich.console import Console

from darkroom.bundles.fingerprint import Profile
from darkroom.storage.directory import DirectoryStore
from model_build.build import Build
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.loading import load
from model_build.compile.context import shapes
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.proof.generation import Setting
from model_build.proof.psnr import psnr
from model_build.proof.reference import Reference
from runtime.bundles.bundle import LoadedBundle, fetch_bundle, load_bundle, static_shapes
from runtime.bundles.hardware import this_machine
from runtime.engines import open_engine
from tests.quantized import quantized_layers
from tests.tiny_checkpoint import write_tiny_lcm, write_tiny_xl

KINDS: dict[str, Callable[[Path], Path]] = {"lcm": write_tiny_lcm, "sdxl": write_tiny_xl}
HALF = "onnx-cpu-fp16"  # the way of onnx-cuda-fp16-plain and of tensorrt-fp16, with the CPU's provider
INT8 = "onnx-cpu-int8"  # the way of tensorrt-int8
PROMPT = "a red cat on a blue background"


class Kind(NamedTuple):
    """A kind's name, diffusers on its checkpoint, and its bundle's targets in float32, in half and in int8."""

    name: str
    reference: Reference
    bundle: LoadedBundle
    half: LoadedBundle
    int8: LoadedBundle


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    store, checkpoint = DirectoryStore(root / "store"), KINDS[name](root / "checkpoint")
    plan = Plan(str(checkpoint), name, ["openvino-fp32", HALF, INT8], root / "work", verify_steps=1, repeats=0)
    Build(plan, store, BuildProgress(Console(file=io.StringIO()))).run()
    opened = open_checkpoint(str(checkpoint))

    def loaded(target: str) -> LoadedBundle:
        bundle = fetch_bundle(store, name, None, target, this_machine(), root / "cache")
        static = static_shapes(bundle, 1, 8, 512)
        return load_bundle(bundle, 1, partial(open_engine, static=static))

    return Kind(name, Reference(opened, load(opened)), *(loaded(target) for target in ("openvino-fp32", HALF, INT8)))


def make(service, admit, **fields: object) -> np.ndarray:
    pixels = []
    service.loop._deliver = lambda _, images: pixels.extend(images)
    admit(service, PROMPT, **fields)
    while service.loop.turn():
        pass
    return pixels[0]


@pytest.mark.parametrize(("guidance", "height"), [(6.0, 64), (1.0, 96)])
def test_the_image_is_that_of_diffusers(kind, serve, admit, guidance: float, height: int) -> None:
    reference, bundle = kind.reference, kind.bundle
    defaults = bundle.manifest.defaults
    fields = {"num_inference_steps": 4, "guidance_scale": guidance, "width": 64, "height": height}
    ours = make(serve(bundle), admit, seed=5, **fields)
    theirs = reference.generate(Setting(PROMPT, 64, height, 4, guidance, defaults.sampler, seed=5))
    assert ours.shape == (height, 64, 3)
    assert psnr(theirs, ours / 255, peak=1.0) > 50


def test_engines_in_half_make_the_same_image(kind, serve, admit) -> None:
    fields = {"num_inference_steps": 4, "width": 64, "height": 64, "seed": 5}
    whole, half = (make(serve(bundle), admit, **fields) for bundle in (kind.bundle, kind.half))
    assert psnr(whole / 255, half / 255, peak=1.0) > 30
    assert kind.half.target.fingerprints
    assert all(mark.precision == "fp16" for mark in kind.half.target.fingerprints)


def test_engines_in_int8_make_nearly_the_same_image(kind, serve, admit) -> None:
    """The UNet with the pairs that TensorRT wants, compiled, published, verified and loaded as its engine would be."""
    fields = {"num_inference_steps": 4, "width": 64, "height": 64, "seed": 5}
    whole, int8 = (make(serve(bundle), admit, **fields) for bundle in (kind.bundle, kind.int8))
    assert 18 < psnr(whole / 255, int8 / 255, peak=1.0) < 100
    assert {mark.precision for mark in kind.int8.target.fingerprints} == {kind.int8.target.precision} == {"int8"}
    graphs = {name: Path(graph._session._model_path) for name, graph in kind.int8.engine._graphs.items()}
    assert len(quantized_layers(graphs["unet"])) > 40
    assert not any(quantized_layers(path) for name, path in graphs.items() if name != "unet")


def test_the_profile_of_an_engine_with_bounds_covers_every_input(kind) -> None:
    """Pooled embeddings, sizes and guidance among them, as TensorRT asks."""
    bounds = Profile(rows=(1, 2, 8), height=(4, 8, 16), width=(4, 8, 16))
    found = shapes(Path(kind.half.engine._graphs["unet"]._session._model_path), bounds, 8)
    assert set(kind.half.manifest.conditions) | {"latents", "timestep", "prompt_embeds"} == found.keys()
    assert {spans[2][0] for spans in found.values()} == {8}


def test_defaults_and_rows_are_those_of_its_kind(kind, serve, admit) -> None:
    name, bundle = kind.name, kind.bundle
    defaults = bundle.manifest.defaults
    made = admit(serve(bundle))
    assert [trajectory.rows for trajectory in made.trajectories] == [1 if name == "lcm" else 2]
    wanted = (4, 8.5, "lcm") if name == "lcm" else (25, 7.5, "euler")  # as its scheduler is
    assert (defaults.num_inference_steps, defaults.guidance_scale, defaults.sampler) == wanted


def test_guidance_is_obeyed_and_alone_tells_images_apart(kind, serve, admit) -> None:
    service = serve(kind.bundle)
    weak, strong, again = (make(service, admit, num_inference_steps=2, guidance_scale=scale) for scale in (2, 12, 2))
    assert (weak == again).all()
    assert np.abs(weak.astype(int) - strong).max() > 1
