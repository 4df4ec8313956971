"""Every trainer learns, and resumes to the very weights an uninterrupted run would have."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from crayon.scenes.dataset import DrawnScenes, drawn_scenes, to_unit_range
from crayon.scenes.grammar import Position, Split, distinct_scenes
from crayon.training.autoencoder import latent_means, new_autoencoder, whiten
from crayon.training.optimizers import optimizers_for, set_learning_rate
from crayon.training.tokenizer import build_tokenizer
from crayon.training.train_unet import UnetTrainer, UnetTraining
from crayon.training.train_vae import VaeTrainer, VaeTraining, signal_to_noise
from crayon.training.trainer import Trainer
from crayon.training.warm_up import place_targets, warm_up

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> DrawnScenes:
    return drawn_scenes(tmp_path_factory.mktemp("drawings"), 24, seed=1, workers=1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def vae_trainer(drawings: DrawnScenes, state: Path) -> VaeTrainer:
    return VaeTrainer(VaeTraining(steps=12, batch=2, crop=32, whole_from=1.0), drawings, CPU, state)


def unet_trainer(drawings: DrawnScenes, state: Path, workers: int = 1) -> UnetTrainer:
    """A trainer of real shape and toy size."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
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
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    latents = torch.randn(len(drawings), 4, 16, 16, generator=torch.Generator().manual_seed(5)).half()
    settings = UnetTraining(steps=12, decay_steps=4, rise_steps=2, batch=8, save_every=5, workers=workers)
    return UnetTrainer(settings, latents, drawings.scenes, tokenizer, text_encoder, unet, state)


@pytest.mark.parametrize("make", [vae_trainer, unet_trainer])
def test_training_learns(
    make: Callable[[DrawnScenes, Path], VaeTrainer], drawings: DrawnScenes, tmp_path: Path
) -> None:
    trainer = make(drawings, tmp_path / "state.pt")
    losses = [trainer.train_step() for _ in range(12)]
    assert all(torch.tensor(losses).isfinite())
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize("make", [vae_trainer, unet_trainer])
def test_resuming_changes_nothing(
    make: Callable[[DrawnScenes, Path], VaeTrainer], drawings: DrawnScenes, tmp_path: Path
) -> None:
    straight = make(drawings, tmp_path / "straight.pt")
    for _ in range(4):
        straight.train_step()
    interrupted = make(drawings, tmp_path / "state.pt")
    for _ in range(2):
        interrupted.train_step()
    interrupted.save()
    resumed = make(drawings, tmp_path / "state.pt")
    assert resumed.step == 2
    for _ in range(2):
        resumed.train_step()
    for expected, actual in zip(straight.average.parameters(), resumed.average.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_the_end_of_unet_training_may_be_chosen_late() -> None:
    long, short = UnetTraining(steps=10_000, decay_steps=500), UnetTraining(steps=3000, decay_steps=1000)
    assert long.rate(150) == short.rate(150) == short.learning_rate
    assert long.rate(0) < long.rate(50) < long.rate(99)
    assert short.rate(2000) > short.rate(2500) > short.rate(2999) > 0


def test_every_save_hands_out_averaged_weights(drawings: DrawnScenes, tmp_path: Path) -> None:
    trainer = unet_trainer(drawings, tmp_path / "state.pt")
    saved: list[tuple[int, torch.Tensor]] = []
    trainer.run(lambda averaged: saved.append((trainer.step, next(averaged.parameters()).detach().clone())))
    assert [step for step, _ in saved] == [5, 10, 12]
    torch.testing.assert_close(saved[-1][1], next(trainer.average.parameters()).detach())
    assert not torch.equal(saved[-1][1], next(trainer._module.parameters()))


def test_replicas_change_who_computes_and_not_what(drawings: DrawnScenes, tmp_path: Path) -> None:
    alone = unet_trainer(drawings, tmp_path / "alone.pt")
    shared = unet_trainer(drawings, tmp_path / "shared.pt", workers=2)
    for _ in range(2):
        assert shared.train_step() == pytest.approx(alone.train_step(), rel=1e-4)
    for expected, actual in zip(alone._module.parameters(), shared._module.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=2e-3)


def test_whitening_changes_units_and_not_pictures(drawings: DrawnScenes) -> None:
    torch.manual_seed(0)
    autoencoder = new_autoencoder().eval()
    images = to_unit_range(drawings.images[:8])
    with torch.no_grad():
        before = autoencoder.decode(latent_means(autoencoder, images)).sample
        whiten(autoencoder, images)
        latents = latent_means(autoencoder, images)
        after = autoencoder.decode(latents).sample
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    scaled = latents * 0.18215
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(scaled.std((0, 2, 3)), torch.ones(4), rtol=0, atol=1e-3)
    assert signal_to_noise(autoencoder, images) > 0


class Steady(Trainer):
    """Every gradient is 1."""

    def backward(self, generator: torch.Generator) -> float:
        for parameter in self._module.parameters():
            parameter.grad = torch.ones_like(parameter)
        return 0.0


def test_the_average_soon_forgets_its_beginning_and_then_follows_slowly(tmp_path: Path) -> None:
    layer = nn.Linear(1, 1, bias=False)
    settings = UnetTraining(steps=200, average_decay=0.9, learning_rate=1.0, decay_steps=0, rise_steps=1)
    trainer = Steady("steady", settings, layer, [torch.optim.SGD(layer.parameters())], tmp_path / "state.pt")
    start = layer.weight.item()
    behind = []
    for _ in range(200):
        trainer.train_step()
        behind.append(trainer.average.module.weight.item() - layer.weight.item())
    assert layer.weight.item() == pytest.approx(start - 200)
    assert behind[0] == 0, "nothing of the weights before the first step"
    assert behind[9] == pytest.approx(1.5, abs=1)
    assert behind[-1] == pytest.approx(9, abs=0.1), "steps behind, at a decay of 0.9"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_is_trained_as_a_matrix_however_it_lies_in_memory(layout: torch.memory_format) -> None:
    convolution, losses = _trained_convolution(layout)
    assert losses[-1] < 0.8 * losses[0]
    other, _ = _trained_convolution(torch.contiguous_format)
    torch.testing.assert_close(convolution.weight, other.weight, rtol=0, atol=0.02)
    assert convolution.weight.is_contiguous(memory_format=layout)


def _trained_convolution(layout: torch.memory_format) -> tuple[nn.Conv2d, list[float]]:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 8, 3, bias=False).to(memory_format=layout)
    target, images = torch.randn(1, 8, 6, 6), torch.randn(1, 4, 8, 8)
    optimizers = optimizers_for(nn.ModuleDict({"inner": convolution, "outer": nn.Linear(1, 1)}), 0.02, 0.01, ())
    losses = []
    for _ in range(20):
        for optimizer in optimizers:
            set_learning_rate(optimizer, 0.02)
            optimizer.zero_grad()
        convolution.zero_grad()
        loss = (convolution(images) - target).pow(2).mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return convolution, losses


def test_layers_that_face_the_data_and_vectors_are_left_to_adam() -> None:
    layers = nn.ModuleDict({"conv_in": nn.Conv2d(3, 4, 3), "hidden": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
    muon, adam = optimizers_for(layers, 0.02, 0.01, ("conv_in",))
    assert [tuple(weight.shape) for weight in muon.param_groups[0]["params"]] == [(4, 4)]
    assert {id(weight) for weight in adam.param_groups[0]["params"]} == {
        id(weight) for weight in layers.parameters() if weight is not layers["hidden"].weight
    }


def test_warm_up_teaches_places(drawings: DrawnScenes) -> None:
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    text_encoder = CLIPTextModel(config)
    few, many = warm_up(text_encoder, tokenizer, 5, batch=8), warm_up(text_encoder, tokenizer, 40, batch=16)
    assert many[0] > few[0]


def test_place_targets_do_not_depend_on_the_telling() -> None:
    pairs = distinct_scenes(50, Split.TRAIN, pairs=True, seed=2)
    told_otherwise = [scene.inverse for scene in pairs]  # type: ignore[union-attr]
    targets = place_targets(pairs)
    assert targets.shape == (50, len(Position), 4)
    assert torch.equal(targets, place_targets(told_otherwise))
    nothing = targets[..., 0] == 12
    assert (nothing.sum(1) == 3).all()
