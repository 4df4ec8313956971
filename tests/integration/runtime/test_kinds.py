"""SDXL and latent consistency models, built and served: the image is that of diffusers."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from darkroom.storage.directory import DirectoryStore
from model_build.build import Build
from model_build.checkpoint import open_checkpoint
from model_build.generation import Setting
from model_build.plan import Plan
from model_build.progress import Progress
from model_build.reference import Reference, load
from model_build.verify import psnr
from runtime.bundle import LoadedBundle, fetch_bundle, load_bundle
from runtime.hardware import this_machine
from tests.tiny_checkpoint import write_tiny_lcm, write_tiny_xl

KINDS: dict[str, Callable[[Path], Path]] = {"lcm": write_tiny_lcm, "sdxl": write_tiny_xl}
PROMPT = "a red cat on a blue background"


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Reference, LoadedBundle]:
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    store, checkpoint = DirectoryStore(root / "store"), KINDS[name](root / "checkpoint")
    plan = Plan(str(checkpoint), name, ["openvino-fp32"], root / "work", verify_steps=1, repeats=0)
    Build(plan, store, Progress(Console(file=io.StringIO()))).run()
    bundle = fetch_bundle(store, name, None, "openvino-fp32", this_machine(), root / "cache")
    opened = open_checkpoint(str(checkpoint))
    return name, Reference(opened, load(opened)), load_bundle(bundle, 1)


def make(service, admit, **fields: object) -> np.ndarray:
    pixels = []
    service.loop._deliver = lambda _, images: pixels.extend(images)
    admit(service, PROMPT, **fields)
    while service.loop.turn():
        pass
    return pixels[0]


@pytest.mark.parametrize(("guidance", "height"), [(6.0, 64), (1.0, 96)])
def test_the_image_is_that_of_diffusers(kind, serve, admit, guidance: float, height: int) -> None:
    _, reference, bundle = kind
    defaults = bundle.manifest.defaults
    fields = {"num_inference_steps": 4, "guidance_scale": guidance, "width": 64, "height": height}
    ours = make(serve(bundle), admit, seed=5, **fields)
    theirs = reference.generate(Setting(PROMPT, 64, height, 4, guidance, defaults.sampler, seed=5))
    assert ours.shape == (height, 64, 3)
    assert psnr(theirs, ours / 255, peak=1.0) > 50


def test_defaults_and_rows_are_those_of_its_kind(kind, serve, admit) -> None:
    name, _, bundle = kind
    defaults = bundle.manifest.defaults
    made = admit(serve(bundle))
    assert [trajectory.rows for trajectory in made.trajectories] == [1 if name == "lcm" else 2]
    wanted = (4, 8.5, "lcm") if name == "lcm" else (25, 7.5, "ddim")
    assert (defaults.num_inference_steps, defaults.guidance_scale, defaults.sampler) == wanted


def test_guidance_is_obeyed_and_alone_tells_images_apart(kind, serve, admit) -> None:
    _, _, bundle = kind
    service = serve(bundle)
    weak, strong, again = (make(service, admit, num_inference_steps=2, guidance_scale=scale) for scale in (2, 12, 2))
    assert (weak == again).all()
    assert np.abs(weak.astype(int) - strong).max() > 1
