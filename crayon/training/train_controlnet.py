"""Trains crayon's canny ControlNet: a copy of the UNet's encoder that steers the frozen UNet by an edge map."""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from crayon.scenes.control_scenes import ControlScenes, control_caption
from crayon.training.denoising import DenoisingSettings, DenoisingTrainer
from crayon.training.optimizers import optimizers_for
from crayon.training.tokenizer import token_ids

EMBEDDING_CHANNELS = (16, 32, 64, 96)
_EDGE_GAIN = 1.5


@dataclass(frozen=True)
class ControlTraining(DenoisingSettings):
    """How the ControlNet is trained; its noisiest steps count in full."""

    steps: int = 600
    decay_steps: int = 300
    rise_steps: int = 50
    learning_rate: float = 1.5e-3
    save_every: int = 100
    seed: int = 41
    # Without a prompt the edge map has to speak for itself: that is also what guidance subtracts.
    empty_share: float = 0.15
    plain_share: float = 0.3
    # Edge maps of the layout in other colours: what a user gets who wants other colours than the source had.
    twin_share: float = 0.7
    # Timesteps are drawn with density rising as this root of the timestep: layout is decided early.
    noise_bias: float = 2 / 3


def new_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """The UNet's encoder with its weights, and a small edge embedding; its residuals are zero before training.

    diffusers starts the embedding at zero as well, so that nothing is learnt of the edges before the residuals have
    grown. Here it passes the edges on from the start, with an energy that its activations do not shrink.
    """
    controlnet: ControlNetModel = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=EMBEDDING_CHANNELS
    )
    embedding = controlnet.controlnet_cond_embedding
    for convolution in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        nn.init.kaiming_normal_(convolution.weight)
        with torch.no_grad():
            convolution.weight.mul_(_EDGE_GAIN)
        nn.init.zeros_(convolution.bias)
    return controlnet


class ControlTrainer(DenoisingTrainer):
    """Trains the ControlNet; UNet and text encoder stay as they are."""

    def __init__(
        self,
        settings: ControlTraining,
        data: ControlScenes,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        state_file: Path,
    ) -> None:
        """The modules are on their device already."""
        self.settings = settings
        self._data = data
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder.requires_grad_(False)
        self._unet = unet.requires_grad_(False)
        apart = ("conv_in", "controlnet_cond_embedding")
        optimizers = optimizers_for(controlnet, settings.learning_rate, settings.weight_decay, apart)
        super().__init__("controlnet", settings, controlnet, optimizers, state_file)

    def backward(self, generator: torch.Generator) -> float:
        settings = self.settings
        indices = torch.randint(0, len(self._data.scenes), (settings.batch,), generator=generator)
        which = (torch.rand(settings.batch, generator=generator) < settings.twin_share).long()
        self._edges = self._data.edge_maps(indices, which).to(self._device)
        batch = self.noised(self._data.latents[indices], generator, settings.noise_bias)
        rng = random.Random(f"{settings.seed}:{self.step}")
        scenes = [self._data.scenes[index] for index in indices.tolist()]
        captions = [control_caption(scene, rng, settings.empty_share, settings.plain_share) for scene in scenes]
        with torch.no_grad():
            ids = torch.tensor(token_ids(self._tokenizer, captions)).to(self._device)
            self._embeddings = self._text_encoder(ids).last_hidden_state
        return self.weighted_error(batch, (2 * settings.snr_cap / (batch.ratio + 1)).clamp(max=1))

    def predict(self, replica: nn.Module, images: torch.Tensor, timesteps: torch.Tensor, rows: slice) -> torch.Tensor:
        maps = self._edges[rows].contiguous(memory_format=torch.channels_last)
        down, mid = replica(images, timesteps, self._embeddings[rows], maps, return_dict=False)
        velocity: torch.Tensor = self._unet(
            images,
            timesteps,
            self._embeddings[rows],
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        return velocity
