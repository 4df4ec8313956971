"""Trains the autoencoder on crops of drawn scenes."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from tqdm import tqdm  # type: ignore[import-untyped]

from crayon.scenes.dataset import DrawnScenes, crops, to_unit_range
from crayon.training.autoencoder import new_autoencoder, whiten
from crayon.training.averaging import WeightAverage
from crayon.training.muon import optimizers_for
from crayon.training.training import channels_last, load_state, save_state, set_learning_rate, step_seed


@dataclass(frozen=True)
class VaeTraining:
    """How the autoencoder is trained; the learning rate falls along a half cosine over all `steps`."""

    steps: int = 2000
    learning_rate: float = 2e-3
    batch: int = 16
    crop: int = 64
    # The last part sees whole pictures, fewer of them, for what a crop cannot show.
    whole_from: float = 0.85
    whole_batch: int = 4
    average_decay: float = 0.99
    save_every: int = 200
    seed: int = 11

    def rate(self, step: int) -> float:
        """The learning rate of `step`."""
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps)) + 0.01
        return self.learning_rate * min(1.0, (step + 1) / 40) * fall


class VaeTrainer:
    """Owns the weights, the optimizer and the average; `run` trains up to a step."""

    def __init__(self, settings: VaeTraining, data: DrawnScenes, device: torch.device, state_file: Path) -> None:
        self.settings = settings
        self._data = data
        self._device = device
        self._state_file = state_file
        torch.manual_seed(settings.seed)
        self.autoencoder = channels_last(new_autoencoder(), device)
        parameters = list(self.autoencoder.parameters())
        # Muon reaches in 130 steps the error that Adam reaches in 700.
        facing = ("conv_in", "conv_out", "quant_conv", "post_quant_conv")
        self._optimizers = optimizers_for(self.autoencoder, settings.learning_rate, 0.0, facing)
        self.average = WeightAverage(parameters, settings.average_decay)
        self.step = load_state(state_file, [self.autoencoder], self._optimizers, self.average, device)

    def _batch(self, step: int) -> torch.Tensor:
        rng = np.random.default_rng((self.settings.seed, step))
        if step < self.settings.whole_from * self.settings.steps:
            taken = crops(self._data, rng, self.settings.batch, self.settings.crop)
        else:
            taken = crops(self._data, rng, self.settings.whole_batch, 128)
        return to_unit_range(taken).to(self._device)

    def train_step(self) -> float:
        """One step; returns the mean squared error of the batch, on the scale [-1, 1]."""
        generator = torch.Generator().manual_seed(step_seed(self.settings.seed, self.step))
        for optimizer in self._optimizers:
            set_learning_rate(optimizer, self.settings.rate(self.step))
        images = self._batch(self.step)
        mean = self.autoencoder.encode(images).latent_dist.mean
        # A little noise on the latents makes the decoder forgiving of what the UNet will hand it.
        noise = torch.randn(mean.shape, generator=generator).to(self._device)
        restored = self.autoencoder.decode(mean + 0.1 * noise).sample
        squared = F.mse_loss(restored, images)
        loss = squared + 0.1 * F.l1_loss(restored, images) + 5e-5 * mean.pow(2).mean()
        self.autoencoder.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.autoencoder.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        self.average.update(self.step)
        return squared.item()

    def save(self) -> None:
        """Writes the state file."""
        save_state(self._state_file, self.step, [self.autoencoder], self._optimizers, self.average)

    def run(self) -> None:
        """Trains to the end, saving on the way."""
        with tqdm(total=self.settings.steps, initial=self.step, desc="vae", mininterval=10) as bar:
            while self.step < self.settings.steps:
                error = self.train_step()
                bar.update()
                bar.set_postfix(mse=f"{error:.5f}", refresh=False)
                if self.step % self.settings.save_every == 0 or self.step == self.settings.steps:
                    self.save()

    def finished(self, images: torch.Tensor) -> AutoencoderKL:
        """The averaged autoencoder, its latents whitened on `images`."""
        with self.average.applied():
            averaged: AutoencoderKL = AutoencoderKL.from_config(self.autoencoder.config)
            averaged.load_state_dict(self.autoencoder.state_dict())
        averaged = channels_last(averaged, self._device).eval()
        whiten(averaged, images.to(self._device))
        return averaged


@torch.no_grad()
def signal_to_noise(autoencoder: AutoencoderKL, images: torch.Tensor, batch: int = 16) -> float:
    """Mean peak signal-to-noise ratio, dB, of images (count, 3, height, width) in [-1, 1] after encode and decode."""
    ratios: list[float] = []
    for part in torch.split(images, batch):
        latents = autoencoder.encode(part).latent_dist.mean
        errors = (autoencoder.decode(latents).sample.clamp(-1, 1) - part).pow(2).flatten(1).mean(1) / 4
        ratios += (-10 * errors.log10()).tolist()
    return sum(ratios) / len(ratios)
