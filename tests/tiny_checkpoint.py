"""A random Stable Diffusion checkpoint of a few hundred kilobytes, in the form that real ones have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, PreTrainedModel

LENGTH, WIDTH = 77, 32
_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
MERGES = [("r", "e"), ("re", "d</w>"), ("a", "t</w>"), ("c", "at</w>")]


def write_tiny_checkpoint(
    folder: Path, prediction_type: Literal["epsilon", "v_prediction"] = "epsilon", dtype: torch.dtype = torch.float16
) -> Path:
    """Save a StableDiffusionPipeline for images of 64x64 pixels; the same bytes on every call.

    Weights are random, but scaled so that another prompt, seed or step count is another image that is neither flat nor
    clipped.
    """
    with _seeded():
        pipeline = StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(),
            unet=_unet(),
            scheduler=_scheduler(prediction_type),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.to(dtype=dtype, silence_dtype_warnings=True).save_pretrained(folder)
    return folder


def write_tiny_lcm(folder: Path) -> Path:
    """Save a LatentConsistencyModelPipeline: the guidance scale is an input of its UNet."""
    with _seeded():
        pipeline = LatentConsistencyModelPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(),
            unet=_unet(time_cond_proj_dim=16),
            scheduler=LCMScheduler(**_SCHEDULE, clip_sample=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True).save_pretrained(folder)
    return folder


def write_tiny_xl(folder: Path) -> Path:
    """Save a StableDiffusionXLPipeline: two text encoders, pooled embeddings and sizes as conditions."""
    with _seeded():
        pipeline = StableDiffusionXLPipeline(
            vae=_vae(scaling_factor=0.13025),
            text_encoder=_text_encoder(),
            text_encoder_2=_text_encoder(CLIPTextModelWithProjection, projection_dim=24),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(pad_token="!"),
            unet=_unet(
                cross_attention_dim=2 * WIDTH,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=24 + 6 * 8,
            ),
            scheduler=EulerDiscreteScheduler(**_SCHEDULE, steps_offset=1, timestep_spacing="leading"),
            add_watermarker=False,
        )
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True).save_pretrained(folder)
    return folder


@contextmanager
def _seeded(seed: int = 0) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def write_tiny_controlnet(folder: Path, seed: int) -> Path:
    """Save a ControlNetModel for that checkpoint; trained ones begin with residuals of zero, this one's can be seen."""
    with _seeded(seed):
        controlnet = ControlNetModel.from_unet(_unet(), conditioning_embedding_out_channels=(4, 8, 8, 16))
        for layer in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.6)
        torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight, std=0.5)
    controlnet.eval().to(torch.float16).save_pretrained(folder)
    return folder


def write_tiny_autoencoder(folder: Path, **options: Any) -> Path:
    """Save an AutoencoderTiny for that checkpoint, whose images are neither flat nor clipped; `options` change it."""
    widths, blocks = (8, 8, 8, 8), (1, 1, 1, 1)
    with _seeded():
        vae = AutoencoderTiny(
            **{
                "encoder_block_out_channels": widths,
                "decoder_block_out_channels": widths,
                "num_encoder_blocks": blocks,
                "num_decoder_blocks": blocks,
                **options,
            }
        )
        for network in (vae.encoder, vae.decoder):
            torch.nn.init.normal_(network.layers[-1].weight, std=0.3)
    vae.eval().to(torch.float16).save_pretrained(folder)
    return folder


def use_old_tokenizer_files(folder: Path) -> None:
    """Replace tokenizer.json by vocab.json and merges.txt, as checkpoints before fast tokenizers have them."""
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(_vocabulary()))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(lines) + "\n")


def _vocabulary() -> dict[str, int]:
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in MERGES), BEGIN, END]
    return {word: index for index, word in enumerate(words)}


def _tokenizer(**options: Any) -> CLIPTokenizer:
    return CLIPTokenizer(vocab=_vocabulary(), merges=MERGES, model_max_length=LENGTH, **options)


def _text_encoder(kind: type[PreTrainedModel] = CLIPTextModel, **options: Any) -> Any:
    vocabulary = _vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=vocabulary[BEGIN],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
        **options,
    )
    encoder = kind(config)
    with torch.no_grad():  # the default, 0.02, makes all prompts alike
        for weights in encoder.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=WIDTH**-0.5)
    return encoder.eval()


def _unet(**options: Any) -> UNet2DConditionModel:
    shape: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**shape, **options}).eval()


def _vae(**options: Any) -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
        **options,
    )
    return vae.eval()


def _scheduler(prediction_type: str) -> DDIMScheduler:
    return DDIMScheduler(
        **_SCHEDULE,
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading" if prediction_type == "epsilon" else "trailing",
    )
