"""Loading: an opened checkpoint and its ControlNets in diffusers, float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import diffusers
import diffusers.utils.logging
import torch
import transformers
from safetensors import SafetensorError

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import Checkpoint
from model_build.checkpoints.controlnet import ControlNetSource


def load(checkpoint: Checkpoint) -> Any:
    """diffusers' pipeline in float32 (fp16 weights become float32 without a change).

    Latent consistency models are loaded as StableDiffusionPipeline too, which gives their UNet the guidance scale.

    Raises: BuildRefused.
    """
    transformers.logging.set_verbosity_error()  # torchvision, which it misses at import, is not used
    transformers.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    options: dict[str, Any] = {"feature_extractor": None, "image_encoder": None}
    pipeline_class: Any = diffusers.StableDiffusionPipeline
    if checkpoint.pipeline == "stable-diffusion-xl":
        pipeline_class = diffusers.StableDiffusionXLPipeline
        options |= {"add_watermarker": False}
    else:
        options |= {"safety_checker": None, "requires_safety_checker": False}
    common = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    with _refusing("checkpoint"):
        if checkpoint.vae is not None:
            vae_class = getattr(diffusers, checkpoint.configs["vae"]["_class_name"])
            options["vae"] = vae_class.from_pretrained(checkpoint.vae, variant=checkpoint.variant("vae"), **common)
        pipeline = pipeline_class.from_pretrained(
            checkpoint.folder, variant=checkpoint.variant("unet"), **common, **options
        )
    if checkpoint.pooled_dim is not None and pipeline.tokenizer.get_vocab() != pipeline.tokenizer_2.get_vocab():
        raise BuildRefused("The checkpoint's two tokenizers have different vocabularies, which is not supported.")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_controlnets(sources: Sequence[ControlNetSource]) -> dict[str, Any]:
    """diffusers' ControlNetModels in float32, by component. Raises: BuildRefused."""
    with _refusing("ControlNet"):
        return {
            source.component: diffusers.ControlNetModel.from_pretrained(
                source.folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
            for source in sources
        }


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """What diffusers cannot load becomes one sentence."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, ValueError) as refused:
        reason = str(refused).strip().split("\n")[0]
        raise BuildRefused(f"diffusers cannot load the {what}: {reason}") from None
