"""Weights that are not what their config says are refused by name; what nobody uses is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.loading import load

Tensors = dict[str, torch.Tensor]
PARTS = ("text_encoder", "unet", "vae")


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def changed(folder: Path, part: str, change: Callable[[Tensors], object]) -> str:
    """The checkpoint with one part's weights changed."""
    (path,) = (folder / part).glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return str(folder)


def some(tensors: Tensors) -> str:
    """A name that each part has, of a weight that is larger than one number."""
    return sorted(name for name, tensor in tensors.items() if name.endswith("weight") and tensor.dim() > 1)[1]


def lost(tensors: Tensors) -> None:
    del tensors[some(tensors)]


def renamed(tensors: Tensors) -> None:
    tensors["another.name"] = tensors.pop(some(tensors))


def wider(tensors: Tensors) -> None:
    tensors[some(tensors)] = torch.zeros([side + 1 for side in tensors[some(tensors)].shape])


def not_a_number(tensors: Tensors) -> None:
    tensors[some(tensors)].view(-1)[3] = torch.nan


def infinite(tensors: Tensors) -> None:
    tensors[some(tensors)].view(-1)[3] = -torch.inf


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lost, "lack {}"),
        (renamed, "lack {}"),
        (wider, "{}"),
        (not_a_number, "NaN or infinite in {}"),
        (infinite, "NaN or infinite in {}"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(
    folder: Path, part: str, change: Callable[[Tensors], object], why: str
) -> None:
    """A text encoder, a UNet or a VAE that lacked some was filled with random numbers, and published."""
    (path,) = (folder / part).glob("*.safetensors")
    name = some(load_file(path)).removeprefix("text_model.")
    source = changed(folder, part, change)
    with pytest.raises(BuildRefused) as refused:
        load(open_checkpoint(source))
    assert why.format(name) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", PARTS)
def test_what_nobody_uses_is_said(folder: Path, part: str) -> None:
    source = changed(folder, part, lambda tensors: tensors.update({"foreign.weight": torch.zeros(2)}))
    said: list[str] = []
    load(open_checkpoint(source), said.append)
    assert said == [f"nothing in {part} uses foreign.weight"]


def test_what_old_files_have_beside_is_nothing_to_speak_of(folder: Path) -> None:
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    said: list[str] = []
    load(open_checkpoint(changed(folder, "text_encoder", lambda tensors: tensors.update(positions))), said.append)
    assert said == []


@pytest.mark.parametrize("part", PARTS)
def test_a_pointer_of_git_lfs_is_named_before_anything_is_loaded(folder: Path, part: str) -> None:
    (path,) = (folder / part).glob("*.safetensors")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4\n")
    with pytest.raises(BuildRefused, match=rf"{part}/{path.name} is a Git LFS pointer; run `git lfs pull`"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("keep", [0, 5, 40, 0.5, -1])
def test_a_file_that_is_cut_short_is_refused(folder: Path, part: str, keep: float) -> None:
    (path,) = (folder / part).glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(BuildRefused):
        load(open_checkpoint(str(folder)))
