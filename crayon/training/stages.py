"""The ordered stages from nothing to a checkpoint: drawings, autoencoder, latents, text encoder, UNet, ControlNet."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import CLIPTextModel

from crayon.scenes.control_scenes import ControlScenes, control_scene, paint_chunk
from crayon.scenes.dataset import DrawnScenes, drawn_scenes, to_unit_range
from crayon.training.autoencoder import SCALING_FACTOR, latent_means
from crayon.training.checkpoint import new_text_encoder, new_unet, save_checkpoint, save_controlnet
from crayon.training.devices import channels_last, on_device
from crayon.training.tokenizer import build_tokenizer
from crayon.training.train_controlnet import ControlTrainer, ControlTraining, new_controlnet
from crayon.training.train_unet import UnetTrainer, UnetTraining
from crayon.training.train_vae import VaeTrainer, VaeTraining, signal_to_noise
from crayon.training.warm_up import warm_up

DATA_SEED = 7
VALIDATION_SEED = 8
CONTROL_SEED = 9
WARM_UP_STEPS = 1500
_CHUNK = 250


@dataclass(frozen=True)
class Workshop:
    """Where the stages leave what the next one needs."""

    folder: Path
    scene_count: int = 24_000
    control_count: int = 12_000

    @property
    def autoencoder(self) -> Path:
        """The finished autoencoder, float32."""
        return self.folder / "vae"

    def drawings(self) -> DrawnScenes:
        """The training set, drawn on first use."""
        return drawn_scenes(self.folder / "data", self.scene_count, DATA_SEED)

    def latents(self, device: torch.device) -> torch.Tensor:
        """Scaled latents of the training set, float16 (scenes, 4, 16, 16), encoded on first use."""
        path = self.folder / f"latents-{DATA_SEED}-{self.scene_count}.pt"
        if path.exists():
            stored: torch.Tensor = torch.load(path, weights_only=True)
            return stored
        autoencoder = channels_last(AutoencoderKL.from_pretrained(self.autoencoder), device).eval()
        images = self.drawings().images
        latents = torch.cat(list(_encoded(autoencoder, images, device)))
        torch.save(latents, path)
        return latents

    def control_scenes(self, autoencoder: AutoencoderKL, device: torch.device, workers: int) -> ControlScenes:
        """The ControlNet's training set, painted and encoded on first use by `workers` threads."""
        path = self.folder / f"control-{CONTROL_SEED}-{self.control_count}.pt"
        if not path.exists():
            encoder = channels_last(autoencoder, device).eval()

            def made(start: int) -> tuple[torch.Tensor, NDArray[np.uint8]]:
                images, edges = paint_chunk(start, min(start + _CHUNK, self.control_count), CONTROL_SEED)
                return torch.cat(list(_encoded(encoder, images, device))), edges

            starts = range(0, self.control_count, _CHUNK)
            with ThreadPoolExecutor(workers) as pool:
                chunks = list(tqdm(pool.map(made, starts), total=len(starts), desc="edge maps, latents"))
            latents, edges = zip(*chunks, strict=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"latents": torch.cat(latents), "edges": torch.from_numpy(np.concatenate(edges))}, path)
        stored = torch.load(path, weights_only=True)
        scenes = [control_scene(index, CONTROL_SEED)[0] for index in range(self.control_count)]
        return ControlScenes(scenes, stored["latents"], stored["edges"])


def _encoded(
    autoencoder: AutoencoderKL, images: NDArray[np.uint8], device: torch.device, batch: int = 64
) -> Iterator[torch.Tensor]:
    for start in range(0, len(images), batch):
        pixels = to_unit_range(images[start : start + batch]).to(device)
        yield (latent_means(autoencoder, pixels) * SCALING_FACTOR).half().cpu()


def train_vae(workshop: Workshop, settings: VaeTraining, device: torch.device) -> float:
    """Trains the autoencoder to the end; returns its signal-to-noise ratio, dB, on scenes drawn for this test alone."""
    drawings = workshop.drawings()
    trainer = VaeTrainer(settings, drawings, device, workshop.folder / "vae-state.pt")
    trainer.run()
    autoencoder = trainer.finished(to_unit_range(drawings.images[:512]))
    autoencoder.save_pretrained(workshop.autoencoder)
    unseen = drawn_scenes(workshop.folder / "data", 128, VALIDATION_SEED)
    return signal_to_noise(autoencoder, to_unit_range(unseen.images).to(device))


def _warmed_text_encoder(workshop: Workshop, text_encoder: CLIPTextModel, device: torch.device) -> None:
    path = workshop.folder / "text-encoder-warm.pt"
    if path.exists():
        text_encoder.load_state_dict(torch.load(path, map_location=device, weights_only=True))
        return
    accuracy = warm_up(text_encoder, build_tokenizer(), WARM_UP_STEPS)
    print("text encoder reads shape, colour, background, size at each place:", accuracy, flush=True)
    torch.save(text_encoder.state_dict(), path)


def train_unet(workshop: Workshop, settings: UnetTraining, device: torch.device, checkpoint: Path) -> None:
    """Trains UNet and text encoder to the end of `settings`, from where the last run stopped.

    Every save also writes the averaged weights to `checkpoint`, a usable one at any time.
    """
    latents, scenes = workshop.latents(device), workshop.drawings().scenes
    tokenizer = build_tokenizer()
    torch.manual_seed(settings.seed)
    text_encoder = on_device(new_text_encoder(tokenizer), device)
    unet = channels_last(new_unet(), device)
    _warmed_text_encoder(workshop, text_encoder, device)
    autoencoder = AutoencoderKL.from_pretrained(workshop.autoencoder)
    trainer = UnetTrainer(settings, latents, scenes, tokenizer, text_encoder, unet, workshop.folder / "unet-state.pt")

    def write_checkpoint(averaged: Any) -> None:
        unet, text_encoder = averaged
        save_checkpoint(checkpoint, tokenizer, text_encoder, unet, autoencoder)

    trainer.run(write_checkpoint)


def train_controlnet(
    workshop: Workshop, settings: ControlTraining, device: torch.device, checkpoint: Path, target: Path
) -> None:
    """Trains a canny ControlNet for the UNet of `checkpoint` to the end of `settings`, from where the last run stopped.

    Every save also writes the averaged weights to `target`, usable ones at any time.
    """
    # The checkpoint's own parts, fp16 as they are served, so that the ControlNet learns to steer exactly those.
    autoencoder = AutoencoderKL.from_pretrained(checkpoint / "vae", torch_dtype=torch.float32)
    data = workshop.control_scenes(autoencoder, device, settings.workers)
    text_encoder = on_device(CLIPTextModel.from_pretrained(checkpoint / "text_encoder", dtype=torch.float32), device)
    unet = channels_last(UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=torch.float32), device)
    torch.manual_seed(settings.seed)
    controlnet = channels_last(new_controlnet(unet), device)
    state_file = workshop.folder / "controlnet-state.pt"
    trainer = ControlTrainer(settings, data, build_tokenizer(), text_encoder, unet, controlnet, state_file)
    trainer.run(lambda averaged: save_controlnet(target, cast(ControlNetModel, averaged)))
