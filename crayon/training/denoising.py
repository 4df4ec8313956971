"""What training a UNet and training its ControlNet have in common: the schedule, the noise, and shared batches."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from crayon.training.checkpoint import new_sampler
from crayon.training.replicas import Replicas, shares
from crayon.training.trainer import Trainer, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class DenoisingSettings(TrainingSettings):
    """The rate rises, stays, and falls over the last `decay_steps` of `steps`.

    Nothing before the fall depends on `steps`, so a run may be resumed with another end.
    """

    decay_steps: int
    rise_steps: int
    weight_decay: float = 0.01
    batch: int = 48
    # Min-SNR weights (Hang et al., 2023) where there is little noise.
    snr_cap: float = 5.0
    average_decay: float = 0.997
    # Threads that share each batch between them; give torch one thread for its operations then.
    workers: int = 1

    def rate(self, step: int) -> float:
        fall = min(1.0, (self.steps - step) / self.decay_steps) if self.decay_steps else 1.0
        return self.learning_rate * min(1.0, (step + 1) / self.rise_steps) * max(fall, 0.01)


@dataclass(frozen=True)
class Noised:
    """A batch of latents at some timesteps, what the UNet is to predict of them, and signal over noise, row by row."""

    latents: torch.Tensor
    timesteps: torch.Tensor
    velocity: torch.Tensor
    ratio: torch.Tensor


class DenoisingTrainer(Trainer):
    """Predicts the velocity of noised latents, each worker's share of a batch on a replica of its own."""

    def __init__(
        self,
        name: str,
        settings: DenoisingSettings,
        module: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        state_file: Path,
    ) -> None:
        super().__init__(name, settings, module, optimizers, state_file)
        self._device = next(module.parameters()).device
        self._signal: torch.Tensor = new_sampler().alphas_cumprod.to(self._device)
        self._batch, self._workers = settings.batch, settings.workers
        self._replicas = Replicas(module, settings.workers)

    @abstractmethod
    def predict(self, replica: nn.Module, images: torch.Tensor, timesteps: torch.Tensor, rows: slice) -> torch.Tensor:
        """The velocity of `rows` of the batch, by this replica."""

    def noised(self, latents: torch.Tensor, generator: torch.Generator, bias: float = 1.0) -> Noised:
        """Latents (rows, 4, 16, 16) with noise; timesteps of a density that rises as the root `bias` of the timestep.

        One timestep is drawn from each of as many equal strata: less variance from step to step than free draws.
        """
        clean, count = latents.float().to(self._device), len(latents)
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        timesteps = (strata**bias * len(self._signal)).long().clamp(max=len(self._signal) - 1).to(self._device)
        signal = self._signal[timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        return Noised(noisy, timesteps, velocity, signal / (1 - signal))

    def weighted_error(self, batch: Noised, weight: torch.Tensor) -> float:
        """Adds up the gradients of the batch's mean squared error, weighted row by row; returns that error."""
        parts = shares(self._batch, self._workers)

        def work(replica: nn.Module, worker: int) -> float:
            rows = parts[worker]
            images = batch.latents[rows].contiguous(memory_format=torch.channels_last)
            predicted = self.predict(replica, images, batch.timesteps[rows], rows)
            errors = weight[rows] * (predicted - batch.velocity[rows]) ** 2
            loss = errors.mean((1, 2, 3)).sum() / self._batch
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.item())

        loss = sum(self._replicas.map(work))
        self._replicas.sum_gradients()
        return loss
