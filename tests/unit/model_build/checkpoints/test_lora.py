"""LoRAs in the weights: by their scale, one after the other; what does not fit is refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.loading import load
from model_build.checkpoints.lora import merge, open_loras

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
RANK, WIDTH = 2, 16


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Any:
    return load(open_checkpoint(str(tiny_checkpoint)))


def write(path: Path, seed: int, layer: str = LAYER, width: int = WIDTH) -> torch.Tensor:
    """A LoRA of one layer, in the form that diffusers saves; the change it stands for."""
    random = torch.Generator().manual_seed(seed)
    down, up = torch.randn(RANK, width, generator=random), torch.randn(width, RANK, generator=random)
    save_file({f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}, path)
    return up @ down


def test_layers_that_the_checkpoint_lacks_are_counted_and_said(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """They vanished."""
    path, said = tmp_path / "more.safetensors", list[str]()
    random = torch.Generator().manual_seed(1)
    names = (LAYER, LAYER.replace("to_q", "to_k"), "down_blocks.7.attentions.0.transformer_blocks.0.attn1.to_q")
    pairs = (("A", (RANK, WIDTH)), ("B", (WIDTH, RANK)))
    save_file(
        {
            f"unet.{name}.lora_{half}.weight": torch.randn(shape, generator=random)
            for name in names
            for half, shape in pairs
        },
        path,
    )
    merge(load(open_checkpoint(str(tiny_checkpoint))), open_loras([str(path)]), said.append)
    assert said == ["of the 3 layers in more.safetensors this checkpoint has 2; the others were left out"]


def test_kohyas_names_are_counted_alike(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path, said = tmp_path / "kohya.safetensors", list[str]()
    name = f"lora_unet_{LAYER.replace('.', '_')}"
    halves = {"lora_down.weight": torch.ones(RANK, WIDTH), "lora_up.weight": torch.ones(WIDTH, RANK)}
    save_file(
        {f"{name}.{half}": tensor for half, tensor in halves.items()} | {f"{name}.alpha": torch.tensor(1.0)}, path
    )
    merge(load(open_checkpoint(str(tiny_checkpoint))), open_loras([str(path)]), said.append)
    assert said == []


def test_kohyas_dora_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """It was merged as a plain LoRA."""
    path = tmp_path / "dora.safetensors"
    name = f"lora_unet_{LAYER.replace('.', '_')}"
    halves = {"lora_down.weight": torch.ones(RANK, WIDTH), "lora_up.weight": torch.ones(WIDTH, RANK)}
    scale = {f"{name}.dora_scale": torch.ones(WIDTH, 1), f"{name}.alpha": torch.tensor(1.0)}
    save_file({f"{name}.{half}": tensor for half, tensor in halves.items()} | scale, path)
    with pytest.raises(BuildRefused, match=r"dora\.safetensors is a DoRA in kohya's form"):
        merge(load(open_checkpoint(str(tiny_checkpoint))), open_loras([str(path)]))


def test_what_is_added(pipeline: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    changes = write(first, 1), write(second, 2)
    weights = pipeline.unet.get_submodule(LAYER).weight.detach().clone()
    others = pipeline.unet.get_submodule(LAYER.replace("to_q", "to_k")).weight.detach().clone()
    merge(pipeline, open_loras([f"{first}=0.5", str(second)]))
    found = pipeline.unet.get_submodule(LAYER)
    torch.testing.assert_close(found.weight, weights + 0.5 * changes[0] + changes[1])
    torch.testing.assert_close(pipeline.unet.get_submodule(LAYER.replace("to_q", "to_k")).weight, others)
    assert type(found) is torch.nn.Linear, "nothing of a LoRA is left in what is exported"


def test_the_name_of_one_is_its_content_and_scale(tmp_path: Path) -> None:
    path = tmp_path / "a=b.safetensors"
    write(path, 1)
    whole, half, again = open_loras([str(path), f"{path}=0.5", f"{path}=0.50"])
    assert (whole.scale, half.scale) == (1.0, 0.5)
    assert len({str(whole), str(half)}) == 2
    assert str(half) == str(again) == f"{whole.sha256}:0.5"


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("style.ckpt", r"^--lora style\.ckpt: give a \.safetensors file"),
        ("style.safetensors=much", r"^--lora style\.safetensors=much: give a \.safetensors file"),
        ("none.safetensors=0.5", r"^There is no file none\.safetensors\.$"),
    ],
)
def test_wrong_options(option: str, sentence: str) -> None:
    with pytest.raises(BuildRefused, match=sentence):
        open_loras([option])


@pytest.mark.parametrize(("layer", "width"), [(LAYER, 24), ("down_blocks.7.attentions.0.to_q", WIDTH)])
@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_one_of_another_checkpoint(tiny_checkpoint: Path, tmp_path: Path, layer: str, width: int) -> None:
    path = tmp_path / "foreign.safetensors"
    write(path, 1, layer, width)
    with pytest.raises(BuildRefused, match=r"^foreign\.safetensors (does not fit|changes nothing of) "):
        merge(load(open_checkpoint(str(tiny_checkpoint))), open_loras([str(path)]))


def test_a_file_that_is_no_lora(pipeline: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"no header")
    with pytest.raises(BuildRefused, match=r"^broken\.safetensors does not fit the checkpoint: "):
        merge(pipeline, open_loras([str(path)]))
