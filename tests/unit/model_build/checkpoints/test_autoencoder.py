"""Which autoencoder may take the place of a checkpoint's own, and what of the checkpoint that changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model_build import BuildRefused
from model_build.checkpoints.autoencoder import with_autoencoder
from model_build.checkpoints.checkpoint import Checkpoint, open_checkpoint
from model_build.checkpoints.loading import load
from tests.tiny_checkpoint import write_tiny_autoencoder


@pytest.fixture
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(str(tiny_checkpoint))


def change(folder: Path, **values: Any) -> Path:
    """Set members of its config; None removes one."""
    content = {**json.loads((folder / "config.json").read_text()), **values}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def test_the_hash_is_that_of_a_checkpoint_with_it(
    checkpoint: Checkpoint, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    same = with_autoencoder(checkpoint, str(tiny_checkpoint / "vae"))
    assert same.sha256 == checkpoint.sha256
    other = with_autoencoder(checkpoint, str(write_tiny_autoencoder(tmp_path / "vae")))
    assert other.sha256 != checkpoint.sha256
    assert other.scaling_factor == 1.0
    assert (other.downscale, other.native_size) == (checkpoint.downscale, checkpoint.native_size)


def test_a_config_that_says_little_means_diffusers_defaults(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = write_tiny_autoencoder(tmp_path / "vae", decoder_block_out_channels=(64,) * 4)
    unsaid = dict.fromkeys(("block_out_channels", "decoder_block_out_channels", "scaling_factor", "latent_channels"))
    found = with_autoencoder(checkpoint, str(change(folder, **unsaid)))
    assert (found.downscale, found.scaling_factor, found.latent_channels) == (8, 1.0, 4)
    assert load(found).vae_scale_factor == 8


def test_another_autoencoder_of_the_same_kind_in_fp16_only(
    checkpoint: Checkpoint, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = change(Path(shutil.copytree(tiny_checkpoint / "vae", tmp_path / "vae")), scaling_factor=0.13025)
    (weights,) = folder.glob("*.safetensors")
    weights.rename(weights.with_suffix(".fp16.safetensors"))
    found = with_autoencoder(checkpoint, str(folder))
    assert (found.variant("vae"), found.variant()) == ("fp16", None)
    assert load(found).vae.config.scaling_factor == found.scaling_factor == 0.13025


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"_class_name": "AutoencoderDC"}, "is a AutoencoderDC; only AutoencoderKL or AutoencoderTiny can be built as"),
        ({"latent_channels": 16}, "was made for another checkpoint: its latent_channels is 16, not 4"),
        ({"decoder_block_out_channels": [8, 8]}, "was made for another checkpoint: its downscale is 2, not 8"),
    ],
)
def test_what_does_not_fit(checkpoint: Checkpoint, tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    folder = change(write_tiny_autoencoder(tmp_path / "vae"), **changed)
    with pytest.raises(BuildRefused, match=sentence):
        with_autoencoder(checkpoint, str(folder))


def test_what_is_none(checkpoint: Checkpoint, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildRefused, match=r"^There is no folder vae\.$"):
        with_autoencoder(checkpoint, "vae")
    with pytest.raises(BuildRefused, match=r"is no autoencoder in diffusers' form: it has no config\.json\.$"):
        with_autoencoder(checkpoint, str(tiny_checkpoint))
    folder = write_tiny_autoencoder(tmp_path / "vae")
    weights = next(folder.glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(BuildRefused, match="is a pickle, which can run any code when it is opened"):
        with_autoencoder(checkpoint, str(folder))
