"""A random Stable Diffusion checkpoint of a few hundred kilobytes, in the form that real ones have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LENGTH, WIDTH = 77, 32
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
MERGES = [("r", "e"), ("re", "d</w>"), ("a", "t</w>"), ("c", "at</w>")]


def write_tiny_checkpoint(
    folder: Path, prediction_type: Literal["epsilon", "v_prediction"] = "epsilon", dtype: torch.dtype = torch.float16
) -> Path:
    """Save a StableDiffusionPipeline for images of 64x64 pixels; the same bytes on every call.

    Weights are random, but scaled so that another prompt, seed or step count is another image that is neither flat nor
    clipped.
    """
    seed = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
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
    finally:
        torch.random.set_rng_state(seed)
    pipeline.to(dtype=dtype, silence_dtype_warnings=True).save_pretrained(folder)
    return folder


def write_tiny_controlnet(folder: Path, seed: int) -> Path:
    """Save a ControlNetModel for that checkpoint; trained ones begin with residuals of zero, this one's can be seen."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        controlnet = ControlNetModel.from_unet(_unet(), conditioning_embedding_out_channels=(4, 8, 8, 16))
        for layer in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.6)
        torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight, std=0.5)
    finally:
        torch.random.set_rng_state(state)
    controlnet.eval().to(torch.float16).save_pretrained(folder)
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


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab=_vocabulary(), merges=MERGES, model_max_length=LENGTH)


def _text_encoder() -> CLIPTextModel:
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
    )
    encoder = CLIPTextModel(config)
    with torch.no_grad():  # the default, 0.02, makes all prompts alike
        for weights in encoder.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=WIDTH**-0.5)
    return encoder.eval()


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


def _vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
    )
    return vae.eval()


def _scheduler(prediction_type: str) -> DDIMScheduler:
    settings: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(
        **settings,
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading" if prediction_type == "epsilon" else "trailing",
    )
