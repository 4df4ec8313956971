"""The ControlNet starts as nothing, learns, leaves the UNet alone and resumes to the very same weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from crayon.scenes.control_scenes import ControlScenes, control_scene, paint_chunk
from crayon.training.checkpoint import CHECKPOINT, save_controlnet
from crayon.training.stages import CONTROL_SEED, Workshop
from crayon.training.tokenizer import build_tokenizer
from crayon.training.train_controlnet import ControlTrainer, ControlTraining, new_controlnet

SCENES = 16


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> ControlScenes:
    _, edges = paint_chunk(0, SCENES, seed=3)
    latents = torch.randn(SCENES, 4, 16, 16, generator=torch.Generator().manual_seed(5)).half()
    return ControlScenes([control_scene(index, 3)[0] for index in range(SCENES)], latents, torch.from_numpy(edges))


def toy_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def toy_trainer(data: ControlScenes, state: Path, workers: int = 1) -> ControlTrainer:
    tokenizer, unet = build_tokenizer(), toy_unet()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    settings = ControlTraining(steps=12, decay_steps=4, rise_steps=2, batch=8, save_every=5, workers=workers)
    return ControlTrainer(settings, data, tokenizer, text_encoder, unet, new_controlnet(unet), state)


def residuals(controlnet: ControlNetModel, edges: torch.Tensor) -> list[torch.Tensor]:
    rows = len(edges)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(rows, 4, 16, 16, generator=generator)
    embeddings = torch.randn(rows, 5, 32, generator=generator)
    with torch.no_grad():
        down, mid = controlnet(latents, torch.full((rows,), 500), embeddings, edges, return_dict=False)
    return [*down, mid]


def test_a_new_controlnet_changes_nothing_but_sees_the_edges(data: ControlScenes) -> None:
    controlnet = new_controlnet(toy_unet())
    edges = data.edge_maps(torch.arange(4), torch.zeros(4, dtype=torch.long))
    assert all(not residual.any() for residual in residuals(controlnet, edges))
    with torch.no_grad():
        seen = controlnet.controlnet_cond_embedding(edges)
    assert seen.std() > 0.1
    assert not torch.equal(seen[0], seen[1])


def test_training_learns_and_leaves_the_unet_alone(data: ControlScenes, tmp_path: Path) -> None:
    trainer = toy_trainer(data, tmp_path / "state.pt")
    losses = [trainer.train_step() for _ in range(12)]
    assert all(torch.tensor(losses).isfinite())
    assert sum(losses[-3:]) < sum(losses[:3])
    for fresh, frozen in zip(toy_unet().parameters(), trainer._unet.parameters(), strict=True):
        assert torch.equal(fresh, frozen)
    edges = data.edge_maps(torch.arange(4), torch.ones(4, dtype=torch.long))
    assert all(residual.any() for residual in residuals(trainer._module, edges))


def test_resuming_changes_nothing(data: ControlScenes, tmp_path: Path) -> None:
    straight = toy_trainer(data, tmp_path / "straight.pt")
    for _ in range(4):
        straight.train_step()
    interrupted = toy_trainer(data, tmp_path / "state.pt")
    for _ in range(2):
        interrupted.train_step()
    interrupted.save()
    resumed = toy_trainer(data, tmp_path / "state.pt")
    assert resumed.step == 2
    for _ in range(2):
        resumed.train_step()
    for expected, actual in zip(straight.average.parameters(), resumed.average.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_every_save_hands_out_averaged_weights(data: ControlScenes, tmp_path: Path) -> None:
    trainer = toy_trainer(data, tmp_path / "state.pt", workers=2)
    saved: list[int] = []

    def write(averaged: ControlNetModel) -> None:
        saved.append(trainer.step)
        save_controlnet(tmp_path / "controlnet", averaged)

    trainer.run(write)
    assert saved == [5, 10, 12]
    written = ControlNetModel.from_pretrained(tmp_path / "controlnet", torch_dtype=torch.float32)
    for expected, actual in zip(trainer.average.parameters(), written.parameters(), strict=True):
        torch.testing.assert_close(actual, expected.half().float(), rtol=0, atol=0)
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "controlnet" / "config.json").read_text()))


def test_the_end_may_be_chosen_late() -> None:
    long, short = ControlTraining(steps=10_000, decay_steps=500), ControlTraining(steps=600, decay_steps=300)
    assert long.rate(100) == short.rate(100) == short.learning_rate
    assert long.rate(0) < long.rate(25) < long.rate(49)
    assert short.rate(300) > short.rate(450) > short.rate(599) > 0


def test_the_training_set_is_made_once(tmp_path: Path) -> None:
    autoencoder = AutoencoderKL.from_pretrained(CHECKPOINT / "vae", torch_dtype=torch.float32)
    workshop = Workshop(tmp_path, control_count=6)
    made = workshop.control_scenes(autoencoder, torch.device("cpu"), workers=2)
    assert made.latents.shape == (6, 4, 16, 16)
    maps = made.edge_maps(torch.tensor([4, 2]), torch.tensor([0, 1]))
    assert maps.shape == (2, 3, 128, 128)
    _, packed = paint_chunk(2, 3, CONTROL_SEED)
    assert np.array_equal(maps[1, 0].numpy(), np.unpackbits(packed[0, 1], axis=-1))
    (stored,) = tmp_path.iterdir()
    before = stored.stat().st_mtime_ns
    again = workshop.control_scenes(autoencoder, torch.device("cpu"), workers=1)
    assert stored.stat().st_mtime_ns == before
    assert again.scenes == made.scenes
    assert torch.equal(again.latents, made.latents)
