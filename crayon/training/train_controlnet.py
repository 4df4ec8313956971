"""Trains crayon's canny ControlNet: a copy of the UNet's encoder that steers the frozen UNet by an edge map."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import CLIPTextModel, CLIPTokenizer

from crayon.scenes.control_scenes import ControlScenes, control_caption
from crayon.training.averaging import WeightAverage
from crayon.training.checkpoint import new_sampler
from crayon.training.muon import optimizers_for
from crayon.training.replicas import Replicas, shares
from crayon.training.tokenizer import token_ids
from crayon.training.training import load_state, save_state, set_learning_rate, step_seed

EMBEDDING_CHANNELS = (16, 32, 64, 96)
_EDGE_GAIN = 1.5


@dataclass(frozen=True)
class ControlTraining:
    """How the ControlNet is trained: the rate rises, stays, and falls over the last `decay_steps` of `steps`.

    Nothing before the fall depends on `steps`, so a run may be resumed with another end.
    """

    steps: int = 600
    decay_steps: int = 300
    rise_steps: int = 50
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    batch: int = 48
    # Without a prompt the edge map has to speak for itself: that is also what guidance subtracts.
    empty_share: float = 0.15
    plain_share: float = 0.3
    # Edge maps of the layout in other colours: what a user gets who asks for other colours than the source had.
    twin_share: float = 0.7
    # Timesteps are drawn with density rising as this root of the timestep: layout is decided early.
    noise_bias: float = 2 / 3
    # As the min-SNR weights (Hang et al., 2023) where there is little noise; the noisiest steps count in full.
    snr_cap: float = 5.0
    average_decay: float = 0.997
    save_every: int = 100
    seed: int = 41
    # Threads that share each batch between them; give torch one thread for its operations then.
    workers: int = 1

    def rate(self, step: int) -> float:
        """The learning rate of `step`."""
        fall = min(1.0, (self.steps - step) / self.decay_steps) if self.decay_steps else 1.0
        return self.learning_rate * min(1.0, (step + 1) / self.rise_steps) * max(fall, 0.01)


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


class ControlTrainer:
    """Owns ControlNet, optimizers and average; `run` trains to the end. UNet and text encoder stay as they are."""

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
        self.controlnet = controlnet
        self._data = data
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder.requires_grad_(False)
        self._unet = unet.requires_grad_(False)
        self._device = unet.device
        self._state_file = state_file
        self._signal: torch.Tensor = new_sampler().alphas_cumprod.to(self._device)
        self._optimizers = optimizers_for(
            controlnet,
            settings.learning_rate,
            settings.weight_decay,
            ("conv_in", "controlnet_cond_embedding"),
            settings.workers,
        )
        self._parameters: list[nn.Parameter] = list(controlnet.parameters())
        self._replicas = Replicas(controlnet, settings.workers)
        self.average = WeightAverage(self._parameters, settings.average_decay)
        self.step = load_state(state_file, [controlnet], self._optimizers, self.average, self._device)

    def _prompt_embeds(self, indices: list[int], rng: random.Random) -> torch.Tensor:
        settings = self.settings
        captions = [
            control_caption(self._data.scenes[index], rng, settings.empty_share, settings.plain_share)
            for index in indices
        ]
        ids = torch.tensor(token_ids(self._tokenizer, captions)).to(self._device)
        with torch.no_grad():
            embeddings: torch.Tensor = self._text_encoder(ids).last_hidden_state
        return embeddings

    def train_step(self) -> float:
        """One step; returns the weighted error of the velocity prediction."""
        settings, count = self.settings, self.settings.batch
        generator = torch.Generator().manual_seed(step_seed(settings.seed, self.step))
        for optimizer in self._optimizers:
            set_learning_rate(optimizer, settings.rate(self.step))
        indices = torch.randint(0, len(self._data.scenes), (count,), generator=generator)
        which = (torch.rand(count, generator=generator) < settings.twin_share).long()
        edges = self._data.edge_maps(indices, which).to(self._device)
        clean = self._data.latents[indices].float().to(self._device)
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        timesteps = (strata**settings.noise_bias * len(self._signal)).long().clamp(max=len(self._signal) - 1)
        timesteps = timesteps.to(self._device)
        signal = self._signal[timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        ratio = signal / (1 - signal)
        weight = (2 * settings.snr_cap / (ratio + 1)).clamp(max=1)
        embeddings = self._prompt_embeds(indices.tolist(), random.Random(f"{settings.seed}:{self.step}"))
        parts = shares(count, settings.workers)

        def work(controlnet: nn.Module, worker: int) -> float:
            rows = parts[worker]
            images = noisy[rows].contiguous(memory_format=torch.channels_last)
            maps = edges[rows].contiguous(memory_format=torch.channels_last)
            down, mid = controlnet(images, timesteps[rows], embeddings[rows], maps, return_dict=False)
            predicted = self._unet(
                images,
                timesteps[rows],
                embeddings[rows],
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
            ).sample
            errors = weight[rows] * (predicted - velocity[rows]) ** 2
            loss = errors.mean((1, 2, 3)).sum() / count
            loss.backward()
            return float(loss.item())

        self._replicas.clear_gradients()
        loss = sum(self._replicas.map(work))
        self._replicas.sum_gradients()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        self.average.update(self.step)
        return loss

    def save(self) -> None:
        """Writes the state file."""
        save_state(self._state_file, self.step, [self.controlnet], self._optimizers, self.average)

    def run(self, on_save: Callable[["ControlTrainer"], None] | None = None) -> None:
        """Trains to the end; at every save, `on_save` is called while the weights are the averaged ones."""
        smooth = 0.0
        with tqdm(total=self.settings.steps, initial=self.step, desc="controlnet", mininterval=10) as bar:
            while self.step < self.settings.steps:
                loss = self.train_step()
                smooth = 0.98 * smooth + 0.02 * loss if smooth else loss
                bar.update()
                bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
                if self.step % self.settings.save_every == 0 or self.step == self.settings.steps:
                    self.save()
                    if on_save is not None:
                        with self.average.applied():
                            on_save(self)
