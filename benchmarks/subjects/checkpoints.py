"""Checkpoints of the published architectures with seeded random weights: speed does not depend on the weights.

Another architecture is another function that makes its pipeline, and a line in `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

_VOCABULARY = 49_408  # CLIP's
_LENGTH = 77
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_SCHEDULE |= {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
_UNCHECKED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def write(architecture: str, folder: Path, *, narrow: int = 1) -> Path:
    """A checkpoint of a key of `ARCHITECTURES` as a diffusers folder of fp16 weights from a fixed seed; written once.

    `narrow` divides all widths, by a power of two up to 16: a network of the same shape that a trial can afford.
    """
    if (folder / "model_index.json").exists():
        return folder
    aside = folder.with_name(folder.name + ".unfinished")  # so that a folder that is there is whole
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = ARCHITECTURES[architecture](narrow)
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True).save_pretrained(aside)
    aside.rename(folder)
    return folder


def write_controlnet(folder: Path, *, narrow: int = 1) -> Path:
    """A ControlNet of `sd15` in the same way. Its last convolutions, zeros where training begins, are drawn as well, so
    that no compiler can leave anything out.
    """
    if (folder / "config.json").exists():
        return folder
    aside = folder.with_name(folder.name + ".unfinished")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        controlnet = sd15_controlnet(narrow)
        for layer in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=1e-3)
        torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight, std=1e-2)
    controlnet.half().save_pretrained(aside)
    aside.rename(folder)
    return folder


def sd15(narrow: int = 1, **unet: Any) -> diffusers.StableDiffusionPipeline:
    """Stable Diffusion 1.5: 512 x 512 pixels; `unet` changes its UNet's configuration."""
    return diffusers.StableDiffusionPipeline(
        text_encoder=text_encoder(768 // narrow, layers=12, heads=12, activation="quick_gelu"),
        tokenizer=tokenizer(),
        unet=diffusers.UNet2DConditionModel(
            sample_size=64,
            block_out_channels=[width // narrow for width in (320, 640, 1280, 1280)],
            cross_attention_dim=768 // narrow,
            attention_head_dim=8,
            norm_num_groups=32 // narrow,
            **unet,
        ),
        vae=autoencoder(narrow),
        scheduler=diffusers.DDIMScheduler(**_SCHEDULE),
        **_UNCHECKED,
    )


def sd15_controlnet(narrow: int = 1) -> Any:
    """The published ControlNets of Stable Diffusion 1.5, canny among them."""
    return diffusers.ControlNetModel(
        block_out_channels=[width // narrow for width in (320, 640, 1280, 1280)],
        cross_attention_dim=768 // narrow,
        attention_head_dim=8,
        norm_num_groups=32 // narrow,
    )


def lcm(narrow: int = 1) -> diffusers.StableDiffusionPipeline:
    """A latent consistency model of 1.5's size: the guidance scale is an input of its UNet."""
    return sd15(narrow, time_cond_proj_dim=256)


def sd21(narrow: int = 1) -> diffusers.StableDiffusionPipeline:
    """Stable Diffusion 2.1: 768 x 768 pixels, OpenCLIP's text encoder, v-prediction."""
    return diffusers.StableDiffusionPipeline(
        text_encoder=text_encoder(1024 // narrow, layers=23, heads=16, activation="gelu"),
        tokenizer=tokenizer(padding="!"),
        unet=diffusers.UNet2DConditionModel(
            sample_size=96,
            block_out_channels=[width // narrow for width in (320, 640, 1280, 1280)],
            cross_attention_dim=1024 // narrow,
            attention_head_dim=[5, 10, 20, 20],
            norm_num_groups=32 // narrow,
            use_linear_projection=True,
        ),
        vae=autoencoder(narrow, sample_size=768),
        scheduler=diffusers.DDIMScheduler(**_SCHEDULE, prediction_type="v_prediction"),
        **_UNCHECKED,
    )


def sdxl(narrow: int = 1) -> diffusers.StableDiffusionXLPipeline:
    """Stable Diffusion XL's base model: 1024 x 1024 pixels, two text encoders, pooled embeddings and sizes."""
    return diffusers.StableDiffusionXLPipeline(
        text_encoder=text_encoder(768 // narrow, layers=12, heads=12, activation="quick_gelu"),
        text_encoder_2=text_encoder(1280 // narrow, layers=32, heads=20, activation="gelu", projected=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(padding="!"),
        unet=diffusers.UNet2DConditionModel(
            sample_size=128,
            block_out_channels=[width // narrow for width in (320, 640, 1280)],
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            transformer_layers_per_block=[1, 2, 10],
            cross_attention_dim=2048 // narrow,
            attention_head_dim=[5, 10, 20],
            norm_num_groups=32 // narrow,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=1280 // narrow + 6 * 256,
        ),
        vae=autoencoder(narrow, sample_size=1024, scaling_factor=0.13025),
        scheduler=diffusers.DDIMScheduler(**_SCHEDULE),
        add_watermarker=False,
    )


def text_encoder(width: int, *, layers: int, heads: int, activation: str, projected: bool = False) -> Any:
    """CLIP's, or OpenCLIP's by its sizes; `projected`: with the projection that pools a prompt into one vector."""
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(
        transformers.CLIPTextConfig(
            vocab_size=_VOCABULARY,
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width if projected else 512,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            hidden_act=activation,
            max_position_embeddings=_LENGTH,
            bos_token_id=_VOCABULARY - 2,
            eos_token_id=_VOCABULARY - 1,
            pad_token_id=_VOCABULARY - 1,
        )
    )


def tokenizer(padding: str = _END) -> Any:
    """A tokenizer of CLIP's size that knows bytes only: every prompt can be read, in more tokens."""
    letters = sorted(ByteLevel.alphabet())
    known = [*letters, *(f"{letter}</w>" for letter in letters)]
    words = [*known, *(f"<|unused{index}|>" for index in range(_VOCABULARY - 2 - len(known))), _BEGIN, _END]
    vocabulary = {word: index for index, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=_LENGTH, pad_token=padding)


def autoencoder(narrow: int = 1, *, sample_size: int = 512, scaling_factor: float = 0.18215) -> Any:
    """Stable Diffusion's: four levels, 4 latent channels."""
    return diffusers.AutoencoderKL(
        block_out_channels=[width // narrow for width in (128, 256, 512, 512)],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
        norm_num_groups=32 // narrow,
        sample_size=sample_size,
        scaling_factor=scaling_factor,
    )


ARCHITECTURES: dict[str, Callable[[int], Any]] = {"sd15": sd15, "sd21": sd21, "sdxl": sdxl, "lcm": lcm}
