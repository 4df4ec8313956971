"""A tiny autoencoder in the place of the checkpoint's own: built, served, compared with diffusers' pipeline with it."""

from __future__ import annotations

import base64
import io
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from PIL import Image
from rich.console import Console

from darkroom.contracts import GenerationRequest, Invocation
from darkroom.storage.directory import DirectoryStore
from model_build.build import Build
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.proof.generation import noises
from model_build.proof.psnr import psnr
from runtime.bundles.bundle import LoadedBundle, fetch_bundle, load_bundle
from runtime.bundles.hardware import this_machine
from runtime.config import RuntimeConfig
from runtime.denoising.runner import Runner
from runtime.metrics import Metrics
from runtime.serving.service import Service
from tests.tiny_checkpoint import write_tiny_autoencoder

PROMPT = "a red cat on a blue background"


def build(plan: Plan, root: Path) -> tuple[LoadedBundle, Any]:
    """The bundle as it is served, and its report."""
    store = DirectoryStore(root / "store")
    _, report = Build(plan, store, BuildProgress(Console(file=io.StringIO()))).run()
    bundle = fetch_bundle(store, plan.name, None, plan.targets[-1], this_machine(), root / "cache")
    return load_bundle(bundle, threads=1), report


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_autoencoder(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def built(
    tiny_checkpoint: Path, tiny_work: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LoadedBundle, Any]:
    targets = ["openvino-int8", "openvino-fp32"]
    plan = Plan(str(tiny_checkpoint), "tiny-vae", targets, tiny_work, verify_steps=2, repeats=0, vae=str(vae))
    return build(plan, tmp_path_factory.mktemp("built"))


@pytest.fixture
def make(built, tmp_path: Path):
    """uint8 [H, W, 3] that the runtime answers a request with."""
    store = DirectoryStore(tmp_path / "images")
    service = Service(built[0], RuntimeConfig(cache="off"), store, Metrics(), time.monotonic, time.sleep)
    pixels: list[np.ndarray] = []
    service.loop._deliver = lambda _, images: pixels.extend(images)

    def make(**fields: Any) -> np.ndarray:
        request = GenerationRequest(prompt=PROMPT, seed=5, num_inference_steps=4, **fields)
        service.admit(Invocation(id="one", request=request), None)
        while service.loop.turn():
            pass
        return pixels[-1]

    yield make
    service.stop()


def test_the_image_is_that_of_diffusers_with_the_same_autoencoder(make, tiny_checkpoint: Path, vae: Path) -> None:
    tiny = AutoencoderTiny.from_pretrained(vae, torch_dtype=torch.float32)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_checkpoint, vae=tiny, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.from_numpy(next(noises(5, (1, 4, 8, 12))))
    told = {"num_inference_steps": 4, "guidance_scale": 3.0, "width": 96, "height": 64, "output_type": "np"}
    (wanted,) = pipeline(PROMPT, latents=latents, **told).images
    assert 0.05 < wanted.std() < 0.45, "neither flat nor clipped"
    assert psnr(wanted, make(width=96, height=64, guidance_scale=3.0) / 255, peak=1.0) > 50


def test_latents_have_its_scale_and_no_spread(built, vae: Path) -> None:
    bundle, _ = built
    assert (bundle.manifest.latents.scaling_factor, bundle.manifest.latents.downscale) == (1.0, 8)
    picture = np.random.Generator(np.random.Philox(1)).integers(0, 256, (64, 72, 3), np.uint8)
    mean, std = Runner(bundle.engine, bundle.manifest, bundle.tokenizer.encode("").ids).encode_image(picture)
    tiny = AutoencoderTiny.from_pretrained(vae, torch_dtype=torch.float32)
    with torch.no_grad():
        image = torch.from_numpy(picture.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)
        (wanted,) = tiny.encode(image).latents.numpy()
    np.testing.assert_allclose(mean, wanted, atol=1e-4)
    assert not std.any()


def test_an_image_starts_from_an_image(make) -> None:
    blue = io.BytesIO()
    Image.new("RGB", (64, 64), (0, 0, 255)).save(blue, "PNG")
    given = f"data:image/png;base64,{base64.b64encode(blue.getvalue()).decode()}"
    near, far = (make(image=given, strength=strength).astype(int) for strength in (0.25, 1.0))
    assert np.abs(near - far).mean() > 1


def test_its_decoder_is_quantized_and_agrees(built) -> None:
    _, report = built
    int8, fp32 = report["targets"]
    assert int8["quantization"]["vae_encoder"]["weights"] == "int8"
    assert int8["psnr"]["vae_decoder"] > 30
    assert fp32["psnr"]["vae_decoder"] > 80


def test_a_checkpoint_that_comes_with_it_has_the_same_engines(
    tiny_checkpoint: Path, tiny_work: Path, vae: Path, built, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(tiny_checkpoint, tmp_path / "own"))
    shutil.rmtree(own / "vae")
    shutil.copytree(vae, own / "vae")
    index = own / "model_index.json"
    index.write_text(index.read_text().replace("AutoencoderKL", "AutoencoderTiny"))
    found, _ = build(Plan(str(own), "tiny-own-vae", ["openvino-fp32"], tiny_work, verify_steps=1, repeats=0), tmp_path)
    theirs, ours = found.manifest, built[0].manifest
    plain = open_checkpoint(str(tiny_checkpoint))
    assert len({theirs.checkpoint_sha256, ours.checkpoint_sha256, plain.sha256}) == 3
    files = {file.path: file.sha256 for file in ours.files}
    assert all(files[file.path] == file.sha256 for file in theirs.files)
