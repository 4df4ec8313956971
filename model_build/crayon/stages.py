"""The ordered stages from nothing to a checkpoint: drawings, autoencoder, latents, text encoder, UNet."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTextModel

from model_build.crayon.autoencoder import SCALING_FACTOR, latent_means
from model_build.crayon.checkpoint import new_text_encoder, new_unet, save_checkpoint
from model_build.crayon.dataset import DrawnScenes, drawn_scenes, to_unit_range
from model_build.crayon.tokenizer import build_tokenizer
from model_build.crayon.train_unet import UnetTrainer, UnetTraining
from model_build.crayon.train_vae import VaeTrainer, VaeTraining, signal_to_noise
from model_build.crayon.training import channels_last, on_device
from model_build.crayon.warm_up import warm_up

DATA_SEED = 7
VALIDATION_SEED = 8
WARM_UP_STEPS = 1500


@dataclass(frozen=True)
class Workshop:
    """Where the stages leave what the next one needs."""

    folder: Path
    scene_count: int = 24_000

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
        parts = []
        for start in range(0, len(images), 64):
            pixels = to_unit_range(images[start : start + 64]).to(device)
            parts.append((latent_means(autoencoder, pixels) * SCALING_FACTOR).half().cpu())
        latents = torch.cat(parts)
        torch.save(latents, path)
        return latents


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

    def write_checkpoint(done: UnetTrainer) -> None:
        save_checkpoint(checkpoint, done.tokenizer, done.text_encoder, done.unet, autoencoder)

    trainer.run(write_checkpoint)
