"""The benchmarks' checkpoints are the published architectures, and what the build stage can read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.subjects import checkpoints
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.controlnet import control_spec, open_controlnets

# Parameters of the published checkpoints.
CLIP, VAE = 123_060_480, 83_653_863
PUBLISHED = {
    "sd15": {"unet": 859_520_964, "text_encoder": CLIP, "vae": VAE},
    "lcm": {"unet": 859_602_884, "text_encoder": CLIP, "vae": VAE},
    "sd21": {"unet": 865_910_724, "text_encoder": 340_387_840, "vae": VAE},
    "sdxl": {"unet": 2_567_463_684, "text_encoder": CLIP, "text_encoder_2": 694_659_840, "vae": VAE},
}


@pytest.mark.parametrize("architecture", checkpoints.ARCHITECTURES)
def test_it_has_as_many_parameters_as_the_published_one(architecture: str) -> None:
    with torch.device("meta"):
        pipeline = checkpoints.ARCHITECTURES[architecture](1)
    counts = {
        name: sum(weights.numel() for weights in part.parameters())
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
    }
    assert counts == PUBLISHED[architecture]


def test_so_has_the_controlnet() -> None:
    with torch.device("meta"):
        controlnet = checkpoints.sd15_controlnet()
    assert sum(weights.numel() for weights in controlnet.parameters()) == 361_279_120


@pytest.mark.parametrize("architecture", ["lcm", "sd21", "sdxl"])
def test_the_others_can_be_read_too(tmp_path: Path, architecture: str) -> None:
    opened = open_checkpoint(str(checkpoints.write(architecture, tmp_path / "narrow", narrow=16)))
    conditions = {"lcm": ["guidance"], "sd21": [], "sdxl": ["text_embeds", "time_ids"]}
    assert opened.conditions == conditions[architecture]
    assert opened.prediction_type == ("v_prediction" if architecture == "sd21" else "epsilon")


def test_a_narrow_one_is_written_once_and_can_be_read(tmp_path: Path) -> None:
    folder = checkpoints.write("sd15", tmp_path / "narrow", narrow=16)
    assert open_checkpoint(str(folder)).embedding_dim == 48
    weights = next((folder / "unet").glob("*.safetensors"))
    written = weights.stat().st_mtime_ns
    assert checkpoints.write("sd15", folder, narrow=16) == folder
    assert weights.stat().st_mtime_ns == written


def test_a_narrow_controlnet_fits_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(checkpoints.write("sd15", tmp_path / "narrow", narrow=16)))
    folder = checkpoints.write_controlnet(tmp_path / "controlnet", narrow=16)
    assert checkpoints.write_controlnet(folder, narrow=16) == folder
    (source,) = open_controlnets({"canny": str(folder)}, checkpoint)
    spec = control_spec((source,), checkpoint)
    assert spec is not None
    assert len(spec.residuals) == 13
