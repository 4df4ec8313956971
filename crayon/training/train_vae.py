"""Trains the autoencoder on crops of drawn scenes."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from crayon.scenes.dataset import DrawnScenes, crops, to_unit_range
from crayon.training.autoencoder import new_autoencoder, whiten
from crayon.training.devices import channels_last
from crayon.training.optimizers import optimizers_for
from crayon.training.trainer import Trainer, TrainingSettings


@dataclass(frozen=True)
class VaeTraining(TrainingSettings):
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
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps)) + 0.01
        return self.learning_rate * min(1.0, (step + 1) / 40) * fall


class VaeTrainer(Trainer):
    """Trains the autoencoder."""

    def __init__(self, settings: VaeTraining, data: DrawnScenes, device: torch.device, state_file: Path) -> None:
        self.settings = settings
        self._data = data
        self._device = device
        torch.manual_seed(settings.seed)
        self._autoencoder = channels_last(new_autoencoder(), device)
        # Muon reaches in 130 steps the error that Adam reaches in 700.
        facing = ("conv_in", "conv_out", "quant_conv", "post_quant_conv")
        optimizers = optimizers_for(self._autoencoder, settings.learning_rate, 0.0, facing)
        super().__init__("vae", settings, self._autoencoder, optimizers, state_file)

    def backward(self, generator: torch.Generator) -> float:
        """The mean squared error of the batch, on the scale [-1, 1], is what it returns."""
        images = self._images()
        mean = self._autoencoder.encode(images).latent_dist.mean
        # A little noise on the latents makes the decoder forgiving of what the UNet will hand it.
        noise = torch.randn(mean.shape, generator=generator).to(self._device)
        restored = self._autoencoder.decode(mean + 0.1 * noise).sample
        squared = F.mse_loss(restored, images)
        loss = squared + 0.1 * F.l1_loss(restored, images) + 5e-5 * mean.pow(2).mean()
        loss.backward()
        return squared.item()

    def _images(self) -> torch.Tensor:
        settings = self.settings
        rng = np.random.default_rng((settings.seed, self.step))
        if self.step < settings.whole_from * settings.steps:
            taken = crops(self._data, rng, settings.batch, settings.crop)
        else:
            taken = crops(self._data, rng, settings.whole_batch, 128)
        return to_unit_range(taken).to(self._device)

    def finished(self, images: torch.Tensor) -> AutoencoderKL:
        """The averaged autoencoder, its latents whitened on `images`."""
        averaged = cast(AutoencoderKL, copy.deepcopy(self.average.module)).eval()
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
