"""Trains the UNet, and with it the text encoder, to denoise latents of captioned scenes."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import CLIPTextModel, CLIPTokenizer

from crayon.scenes.captions import canonical_caption, caption_variant
from crayon.scenes.grammar import Scene
from crayon.training.averaging import WeightAverage
from crayon.training.checkpoint import new_sampler
from crayon.training.muon import optimizers_for
from crayon.training.replicas import Replicas, shares
from crayon.training.tokenizer import token_ids
from crayon.training.training import load_state, save_state, set_learning_rate, step_seed


@dataclass(frozen=True)
class UnetTraining:
    """How the UNet is trained: the rate rises, stays, and falls over the last `decay_steps` of `steps`.

    Nothing before the fall depends on `steps`, so a run may be resumed with another end.
    """

    steps: int = 2000
    decay_steps: int = 600
    rise_steps: int = 100
    learning_rate: float = 2e-3
    text_scale: float = 0.2
    weight_decay: float = 0.01
    batch: int = 48
    empty_share: float = 0.1
    canonical_share: float = 0.3
    # Min-SNR weights (Hang et al., 2023), with a floor: the noisiest steps, which decide layout and colour, count too.
    snr_cap: float = 5.0
    weight_floor: float = 0.3
    average_decay: float = 0.997
    save_every: int = 200
    seed: int = 21
    # Threads that share each batch between them; give torch one thread for its operations then.
    workers: int = 1

    def rate(self, step: int) -> float:
        """The learning rate of `step`."""
        left = self.steps - step
        fall = min(1.0, left / self.decay_steps) if self.decay_steps else 1.0
        return self.learning_rate * min(1.0, (step + 1) / self.rise_steps) * max(fall, 0.01)


def training_caption(scene: Scene, rng: random.Random, settings: UnetTraining) -> str:
    """Nothing, the canonical caption or a variant of it, in the shares that `settings` gives."""
    share = rng.random()
    if share < settings.empty_share:
        return ""
    if share < settings.empty_share + settings.canonical_share:
        return canonical_caption(scene)
    return caption_variant(scene, rng)


class UnetTrainer:
    """Owns UNet, text encoder, optimizers and average; `run` trains to the end."""

    def __init__(
        self,
        settings: UnetTraining,
        latents: torch.Tensor,
        scenes: list[Scene],
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        state_file: Path,
    ) -> None:
        """`latents` are scaled, (scenes, 4, 16, 16), in any float type; the modules are on their device already."""
        self.settings = settings
        self.unet = unet
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self._latents = latents
        self._scenes = scenes
        self._device = unet.device
        self._state_file = state_file
        self._signal: torch.Tensor = new_sampler().alphas_cumprod.to(self._device)
        self._optimizers = [
            *optimizers_for(
                unet, settings.learning_rate, settings.weight_decay, ("conv_in", "conv_out"), settings.workers
            ),
            *optimizers_for(
                text_encoder,
                settings.learning_rate,
                settings.weight_decay,
                ("token_embedding", "position_embedding"),
                settings.workers,
            ),
        ]
        for optimizer in self._optimizers[2:]:
            for group in optimizer.param_groups:
                group["scale"] = settings.text_scale
        self._parameters: list[nn.Parameter] = [*unet.parameters(), *text_encoder.parameters()]
        self._replicas = Replicas(nn.ModuleList([unet, text_encoder]), settings.workers)
        self.average = WeightAverage(self._parameters, settings.average_decay)
        self.step = load_state(state_file, [unet, text_encoder], self._optimizers, self.average, self._device)

    def _token_ids(self, indices: list[int], rng: random.Random) -> torch.Tensor:
        captions = [training_caption(self._scenes[index], rng, self.settings) for index in indices]
        return torch.tensor(token_ids(self.tokenizer, captions)).to(self._device)

    def train_step(self) -> float:
        """One step; returns the weighted error of the velocity prediction."""
        settings, count = self.settings, self.settings.batch
        generator = torch.Generator().manual_seed(step_seed(settings.seed, self.step))
        for optimizer in self._optimizers:
            set_learning_rate(optimizer, settings.rate(self.step))
        indices = torch.randint(0, len(self._latents), (count,), generator=generator)
        clean = self._latents[indices].float().to(self._device)
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        # One timestep from each of `count` equal strata: less variance from step to step than free draws.
        strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        timesteps = (strata * len(self._signal)).long().to(self._device)
        signal = self._signal[timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        ratio = signal / (1 - signal)
        weight = (2 * ratio.clamp(max=settings.snr_cap) / (ratio + 1)).clamp(min=settings.weight_floor)
        ids = self._token_ids(indices.tolist(), random.Random(f"{settings.seed}:{self.step}"))
        parts = shares(count, settings.workers)

        def work(replica: nn.Module, worker: int) -> float:
            rows = parts[worker]
            unet, text_encoder = replica.children()
            embeddings = text_encoder(ids[rows]).last_hidden_state
            images = noisy[rows].contiguous(memory_format=torch.channels_last)
            predicted = unet(images, timesteps[rows], embeddings).sample
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
        save_state(self._state_file, self.step, [self.unet, self.text_encoder], self._optimizers, self.average)

    def run(self, on_save: Callable[["UnetTrainer"], None] | None = None) -> None:
        """Trains to the end; at every save, `on_save` is called while the weights are the averaged ones."""
        smooth = 0.0
        with tqdm(total=self.settings.steps, initial=self.step, desc="unet", mininterval=10) as bar:
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
