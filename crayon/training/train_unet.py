"""Trains the UNet, and with it the text encoder, to denoise latents of captioned scenes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from crayon.scenes.captions import canonical_caption, caption_variant
from crayon.scenes.grammar import Scene
from crayon.training.denoising import DenoisingSettings, DenoisingTrainer
from crayon.training.optimizers import optimizers_for
from crayon.training.tokenizer import token_ids


@dataclass(frozen=True)
class UnetTraining(DenoisingSettings):
    """How the UNet is trained."""

    steps: int = 2000
    decay_steps: int = 600
    rise_steps: int = 100
    learning_rate: float = 2e-3
    save_every: int = 200
    seed: int = 21
    text_scale: float = 0.2
    empty_share: float = 0.1
    canonical_share: float = 0.3
    # The least weight of a timestep: the noisiest steps, which decide layout and colour, count too.
    weight_floor: float = 0.3


def training_caption(scene: Scene, rng: random.Random, settings: UnetTraining) -> str:
    """Nothing, the canonical caption or a variant of it, in the shares that `settings` gives."""
    share = rng.random()
    if share < settings.empty_share:
        return ""
    if share < settings.empty_share + settings.canonical_share:
        return canonical_caption(scene)
    return caption_variant(scene, rng)


class UnetTrainer(DenoisingTrainer):
    """Trains UNet and text encoder, in this order the two parts of its module."""

    def __init__(
        self,
        settings: UnetTraining,
        latents: torch.Tensor,
        scenes: Sequence[Scene],
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        state_file: Path,
    ) -> None:
        """`latents` are scaled, (scenes, 4, 16, 16), in any float type; the modules are on their device already."""
        rate, decay = settings.learning_rate, settings.weight_decay
        of_unet = optimizers_for(unet, rate, decay, ("conv_in", "conv_out"))
        of_text = optimizers_for(text_encoder, rate, decay, ("token_embedding", "position_embedding"))
        for group in (group for optimizer in of_text for group in optimizer.param_groups):
            group["scale"] = settings.text_scale
        self.settings = settings
        self._latents = latents
        self._scenes = scenes
        self._tokenizer = tokenizer
        super().__init__("unet", settings, nn.ModuleList([unet, text_encoder]), [*of_unet, *of_text], state_file)

    def backward(self, generator: torch.Generator) -> float:
        settings = self.settings
        indices = torch.randint(0, len(self._latents), (settings.batch,), generator=generator)
        batch = self.noised(self._latents[indices], generator)
        rng = random.Random(f"{settings.seed}:{self.step}")
        captions = [training_caption(self._scenes[index], rng, settings) for index in indices.tolist()]
        self._ids = torch.tensor(token_ids(self._tokenizer, captions)).to(self._device)
        weight = 2 * batch.ratio.clamp(max=settings.snr_cap) / (batch.ratio + 1)
        return self.weighted_error(batch, weight.clamp(min=settings.weight_floor))

    def predict(self, replica: nn.Module, images: torch.Tensor, timesteps: torch.Tensor, rows: slice) -> torch.Tensor:
        unet, text_encoder = replica.children()
        velocity: torch.Tensor = unet(images, timesteps, text_encoder(self._ids[rows]).last_hidden_state).sample
        return velocity
