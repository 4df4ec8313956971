"""Reference: the diffusers pipeline itself, asked for the same image from the same noise."""

from __future__ import annotations

from typing import Any

import diffusers
import diffusers.utils.logging
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError

from model_build import BuildRefused, samplers
from model_build.checkpoint import Checkpoint
from model_build.export import component_graph
from model_build.generation import Floats, Setting, noises
from model_build.trial import Arrays


def load(checkpoint: Checkpoint) -> Any:
    """diffusers' StableDiffusionPipeline in float32 (fp16 weights become float32 without a change).

    Raises: BuildRefused.
    """
    transformers.logging.set_verbosity_error()  # torchvision, which it misses at import, is not used
    transformers.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    try:
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
            checkpoint.folder,
            dtype=torch.float32,
            use_safetensors=True,
            variant=checkpoint.variant,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
            local_files_only=True,
        )
    except (OSError, RuntimeError, SafetensorError, ValueError) as refused:
        reason = str(refused).strip().split("\n")[0]
        raise BuildRefused(f"diffusers cannot load the checkpoint: {reason}") from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Reference:
    """What a bundle is compared with."""

    def __init__(self, checkpoint: Checkpoint, pipeline: Any) -> None:
        self.checkpoint = checkpoint
        self.pipeline = pipeline

    def generate(self, setting: Setting) -> Floats:
        """An image [height, width, 3] in [0, 1]."""
        side = self.checkpoint.downscale
        shape = (1, self.checkpoint.latent_channels, setting.height // side, setting.width // side)
        draws = noises(setting.seed, shape)
        latents = torch.from_numpy(next(draws))
        self.pipeline.scheduler = samplers.create(setting.sampler, self.checkpoint.sampler_config, setting.steps)
        with samplers.replaced_noise(lambda _: torch.from_numpy(next(draws))):
            found = self.pipeline(
                setting.prompt,
                width=setting.width,
                height=setting.height,
                num_inference_steps=setting.steps,
                guidance_scale=setting.guidance,
                latents=latents,
                output_type="np",
            )
        image: Floats = found.images[0]
        return image

    def component(self, name: str, inputs: Arrays) -> list[NDArray[Any]]:
        """One component's outputs, in its graph's order."""
        module = component_graph(name, self.checkpoint, self.pipeline).module
        with torch.no_grad():
            found = module(*(torch.from_numpy(np.asarray(value)) for value in inputs.values()))
        return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]
