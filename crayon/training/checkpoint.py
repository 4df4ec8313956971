"""Crayon as a diffusers checkpoint: the parts' shapes, and how they are written."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from crayon.reports import write_json
from crayon.training.tokenizer import MAX_TOKENS, save_tokenizer

HERE = Path(__file__).resolve().parents[1]
CHECKPOINT = HERE / "checkpoint"
CONTROLNET = HERE / "controlnet-canny"
LATENT_SIZE = 16
TEXT_WIDTH = 128

_Module = TypeVar("_Module", bound=nn.Module)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A fresh two-layer CLIP text encoder: ids (count, 32) to embeddings (count, 32, 128)."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=TEXT_WIDTH,
        hidden_act="quick_gelu",
    )
    return CLIPTextModel(config)


def new_unet() -> UNet2DConditionModel:
    """A fresh UNet over latents (count, 4, 16, 16) and prompt embeddings (count, 32, 128)."""
    unet: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128, 192),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    return unet


def new_sampler() -> DDIMScheduler:
    """DDIM as crayon was trained: v-prediction, nearly no signal at the last of 1000 timesteps, trailing spacing."""
    sampler: DDIMScheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.02,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return sampler


def parameter_count(*modules: nn.Module) -> int:
    """Number of weights in all `modules` together."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def save_checkpoint(
    folder: Path,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    autoencoder: AutoencoderKL,
) -> None:
    """Writes the fp16 pipeline to `folder`, each file replaced whole, so that readers never see half a one."""
    text_config = CLIPTextConfig.from_dict(text_encoder.config.to_dict())
    parts: dict[str, Any] = {
        "text_encoder": _half(CLIPTextModel(text_config), text_encoder),
        "unet": _half(UNet2DConditionModel.from_config(unet.config), unet),
        "vae": _half(AutoencoderKL.from_config(autoencoder.config), autoencoder),
        "tokenizer": tokenizer,
        "scheduler": new_sampler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    pipeline = StableDiffusionPipeline(**parts)
    with _replacing(folder) as written:
        pipeline.save_pretrained(written, safe_serialization=True)
        shutil.rmtree(written / "tokenizer")
        save_tokenizer(tokenizer, written / "tokenizer")


def save_controlnet(folder: Path, controlnet: ControlNetModel) -> None:
    """Writes the fp16 ControlNet to `folder`, each file replaced whole."""
    half = _half(ControlNetModel.from_config(controlnet.config), controlnet)
    with _replacing(folder) as written:
        half.save_pretrained(written, safe_serialization=True)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder to write to, whose files take their places in `folder` when they are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".checkpoint-") as name:
        written = Path(name)
        yield written
        for path in written.rglob("*.json"):
            content = json.loads(path.read_text())
            if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:  # of this machine
                write_json(path, content)
        for path in sorted(written.rglob("*")):
            if path.is_file():
                target = folder / path.relative_to(written)
                target.parent.mkdir(parents=True, exist_ok=True)
                # safetensors writes for its owner alone; a served checkpoint is read by others.
                path.chmod(0o644)
                path.replace(target)


def _half(empty: _Module, source: nn.Module) -> _Module:
    empty.load_state_dict(source.state_dict())
    half: _Module = empty.half()
    return half
