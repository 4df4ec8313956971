"""What of a checkpoint is read, and what is refused, each with a sentence that says what to do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import open_checkpoint
from tests.tiny_checkpoint import LENGTH, WIDTH


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def change(file: Path, **values: Any) -> None:
    """Set members of a JSON file; None removes one."""
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def pickle_of(folder: Path, part: str) -> Path:
    weights = next((folder / part).glob("*.safetensors"))
    return weights.rename(weights.with_suffix(".bin"))


def test_what_a_manifest_needs(tiny_checkpoint: Path) -> None:
    found = open_checkpoint(str(tiny_checkpoint))
    assert (found.prediction_type, found.native_size, found.downscale, found.latent_channels) == ("epsilon", 64, 8, 4)
    assert (found.max_length, found.embedding_dim, found.scaling_factor) == (LENGTH, WIDTH, 0.18215)
    assert found.variant() is None


def test_the_hash_is_of_what_is_read(folder: Path) -> None:
    before = open_checkpoint(str(folder)).sha256
    (folder / "README.md").write_text("changed")
    (folder / "unet" / "notes.bin").write_bytes(b"never opened")
    assert open_checkpoint(str(folder)).sha256 == before
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    assert open_checkpoint(str(folder)).sha256 != before


def test_a_checkpoint_in_fp16_only(folder: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        weights = next((folder / part).glob("*.safetensors"))
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    assert open_checkpoint(str(folder)).variant() == "fp16"


OLD = [("0.6.0", 512), ("0.8.1", 512), ("0.9.0", 256), ("0.42.1", 256), (None, 256), ("rubbish", 256)]


@pytest.mark.parametrize(("version", "side"), OLD)
def test_files_of_old_diffusers_say_half_the_size(tiny_checkpoint: Path, version: str | None, side: int) -> None:
    opened = open_checkpoint(str(tiny_checkpoint))
    unet = {**opened.configs["unet"], "sample_size": 32}
    unet.pop("_diffusers_version")
    told = {} if version is None else {"_diffusers_version": version}
    assert replace(opened, configs={**opened.configs, "unet": unet | told}).native_size == side


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights(folder: Path, part: str) -> None:
    name = pickle_of(folder, part).name
    with pytest.raises(BuildRefused, match=rf"^{part}/{name} is a pickle, .*; convert it to safetensors .*\.$"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["v1-5.ckpt", "model.bin", "model.PT"])
def test_a_pickle_as_the_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(BuildRefused, match=r"is a pickle, which can run any code when it is opened"):
        open_checkpoint(str(tmp_path / name))


def test_no_weights_at_all(folder: Path) -> None:
    next((folder / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(
        BuildRefused, match=r"^The checkpoint has no safetensors weights in unet; pickles are not read\.$"
    ):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("file", "values", "sentence"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusion3Pipeline"},
            "is a StableDiffusion3Pipeline; only StableDiffusionPipeline, LatentCons",
        ),
        ("model_index.json", {"vae": ["diffusers", "VQModel"]}, "has a VQModel as vae; only AutoencoderKL or A"),
        ("model_index.json", {"unet": None}, "has a None as unet"),
        (
            "scheduler/scheduler_config.json",
            {"thresholding": True},
            'with thresholding is no linear table; set "thresh',
        ),
        ("scheduler/scheduler_config.json", {"clip_sample": True}, 'with clip_sample is no linear table; set "clip_s'),
        ("scheduler/scheduler_config.json", {"clip_sample": None}, "with clip_sample is no linear table"),
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "sample"},
            "prediction type sample; only epsilon and v_",
        ),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow_prediction"}, "prediction type flow_prediction"),
        *(
            ("scheduler/scheduler_config.json", {"_class_name": kind}, f"is of a {kind}, whose noise no sampler here")
            for kind in ("EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler", "Nonsense", None, 5)
        ),
        ("model_index.json", {"unet": ["diffusers"]}, "has a None as unet"),
        ("model_index.json", {"unet": "UNet2DConditionModel"}, "has a None as unet"),
        ("unet/config.json", {"in_channels": 9}, "takes more than latents"),
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "has a None as text_encoder_2"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "addition_embed_type is text_time, which this"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "needs more than a prompt \\(class_embed_type"),
        (
            "vae/config.json",
            {"block_out_channels": None},
            "vae/config.json of the checkpoint has no block_out_channels",
        ),
    ],
)
def test_what_cannot_be_built(folder: Path, file: str, values: dict[str, Any], sentence: str) -> None:
    change(folder / file, **values)
    with pytest.raises(BuildRefused, match=sentence):
        open_checkpoint(str(folder))


def test_damaged_and_missing_configs(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text("[]")
    with pytest.raises(BuildRefused, match=r"^unet/config\.json of the checkpoint is not a JSON object\.$"):
        open_checkpoint(str(folder))
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(BuildRefused, match=r"^unet/config\.json of the checkpoint is not valid JSON\.$"):
        open_checkpoint(str(folder))
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(BuildRefused, match=r"^The checkpoint has no unet/config\.json\.$"):
        open_checkpoint(str(folder))


def test_no_checkpoint_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildRefused, match="There is no folder"):
        open_checkpoint(str(tmp_path / "absent"))
    with pytest.raises(BuildRefused, match=r"is no diffusers folder: it has no model_index\.json"):
        open_checkpoint(str(tmp_path))
    (tmp_path / "one.safetensors").write_bytes(b"")
    with pytest.raises(BuildRefused, match="is a single file; give a diffusers folder or a hub id"):
        open_checkpoint(str(tmp_path / "one.safetensors"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BuildRefused, match=r"^There is no folder nobody/nothing, and it cannot be downloaded"):
        open_checkpoint("nobody/nothing")
