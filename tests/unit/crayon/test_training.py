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
from crayon.training.averaging import WeightAverage
from crayon.training.muon import Muon, orthogonalized
from crayon.training.tokenizer import build_tokenizer
from crayon.training.train_unet import UnetTrainer, UnetTraining
from crayon.training.train_vae import VaeTrainer, VaeTraining, signal_to_noise
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
    for expected, actual in zip(straight.average.values, resumed.average.values, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_the_end_of_unet_training_may_be_chosen_late() -> None:
    long, short = UnetTraining(steps=10_000, decay_steps=500), UnetTraining(steps=3000, decay_steps=1000)
    assert long.rate(150) == short.rate(150) == short.learning_rate
    assert long.rate(0) < long.rate(50) < long.rate(99)
    assert short.rate(2000) > short.rate(2500) > short.rate(2999) > 0


def test_every_save_hands_out_averaged_weights(drawings: DrawnScenes, tmp_path: Path) -> None:
    trainer = unet_trainer(drawings, tmp_path / "state.pt")
    saved: list[tuple[int, torch.Tensor]] = []
    trainer.run(lambda now: saved.append((now.step, next(now.unet.parameters()).detach().clone())))
    assert [step for step, _ in saved] == [5, 10, 12]
    torch.testing.assert_close(saved[-1][1], trainer.average.values[0])
    assert not torch.equal(saved[-1][1], next(trainer.unet.parameters()))


def test_replicas_change_who_computes_and_not_what(drawings: DrawnScenes, tmp_path: Path) -> None:
    alone = unet_trainer(drawings, tmp_path / "alone.pt")
    shared = unet_trainer(drawings, tmp_path / "shared.pt", workers=2)
    for _ in range(2):
        assert shared.train_step() == pytest.approx(alone.train_step(), rel=1e-4)
    for expected, actual in zip(alone.unet.parameters(), shared.unet.parameters(), strict=True):
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


def test_average_follows_and_gives_back() -> None:
    layer = nn.Linear(2, 2)
    average = WeightAverage(layer.parameters(), decay=0.9)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    average.update(1000)
    with average.applied():
        torch.testing.assert_close(layer.weight.detach(), before + 0.1)
    torch.testing.assert_close(layer.weight.detach(), before + 1.0)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_orthogonalized_matrices_stretch_nothing_much(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert values.max() < 1.4
    assert values.median() > 0.6


def test_muon_treats_a_convolution_as_a_matrix() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 8, 3, bias=False)
    target = torch.randn(1, 8, 6, 6)
    images = torch.randn(1, 4, 8, 8)
    optimizer = Muon(convolution.parameters(), 0.02)
    losses = []
    for _ in range(20):
        loss = (convolution(images) - target).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


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
