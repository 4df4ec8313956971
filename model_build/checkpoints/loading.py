"""Loading: an opened checkpoint and its ControlNets in diffusers, float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import diffusers.utils.logging
import torch
import transformers
from safetensors import SafetensorError

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import Checkpoint
from model_build.checkpoints.controlnet import ControlNetSource

Say = Callable[[str], object]


def _ignore(_said: str) -> None:
    pass


def load(checkpoint: Checkpoint, say: Say = _ignore) -> Any:
    """diffusers' pipeline in float32 (fp16 weights become float32 without a change).

    Latent consistency models are loaded as StableDiffusionPipeline too, which gives their UNet the guidance scale.
    Each part's weights are judged; `say` is told of what nobody uses.

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
    with _refusing("checkpoint"):
        for part, kind in _kinds(checkpoint).items():
            folder = checkpoint.vae if part == "vae" and checkpoint.vae is not None else checkpoint.folder / part
            options[part] = _judged(part, kind, folder, say, variant=checkpoint.variant(part))
        pipeline = pipeline_class.from_pretrained(checkpoint.folder, local_files_only=True, **options)
    if checkpoint.pooled_dim is not None and pipeline.tokenizer.get_vocab() != pipeline.tokenizer_2.get_vocab():
        raise BuildRefused("The checkpoint's two tokenizers have different vocabularies, which is not supported.")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_controlnets(sources: Sequence[ControlNetSource], say: Say = _ignore) -> dict[str, Any]:
    """diffusers' ControlNetModels in float32, by component. Raises: BuildRefused."""
    with _refusing("ControlNet"):
        return {
            source.component: _judged(source.component, diffusers.ControlNetModel, source.folder, say)
            for source in sources
        }


def _kinds(checkpoint: Checkpoint) -> dict[str, Any]:
    """The class of each part that has weights."""
    kinds: dict[str, Any] = {
        "text_encoder": transformers.CLIPTextModel,
        "unet": diffusers.UNet2DConditionModel,
        "vae": getattr(diffusers, str(checkpoint.configs["vae"].get("_class_name", "AutoencoderKL"))),
    }
    if checkpoint.pooled_dim is not None:
        kinds["text_encoder_2"] = transformers.CLIPTextModelWithProjection
    return kinds


def _judged(part: str, kind: Any, folder: Path, say: Say, *, variant: str | None = None) -> Any:
    ours = {"ignore_mismatched_sizes": True} if issubclass(kind, transformers.PreTrainedModel) else {}
    module, info = kind.from_pretrained(
        folder,
        variant=variant,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **ours,
    )
    _judge(part, module, info, say)
    return module


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """What diffusers cannot load becomes one sentence."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, ValueError) as refused:
        reason = str(refused).strip().split("\n")[0]
        raise BuildRefused(f"diffusers cannot load the {what}: {reason}") from None


def _judge(part: str, module: Any, info: Mapping[str, Iterable[Any]], say: Say) -> None:
    """Loaders fill up what is missing with random numbers and go on; `info` is what they found, keys that are missing,
    unexpected or of another shape.

    What nobody uses is said, since such files work. Raises: BuildRefused, for weights that are missing, misshapen or no
    numbers.
    """
    anew = "get its files again, or the config.json that they are of"
    if missing := _names(info["missing_keys"]):
        raise BuildRefused(f"The weights of {part} lack {_told(missing)}: {anew}.")
    if misshapen := _names(info.get("mismatched_keys", ())):
        raise BuildRefused(f"The weights of {part} are not as its config.json says in {_told(misshapen)}: {anew}.")
    with torch.no_grad():
        broken = [name for name, weight in module.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise BuildRefused(f"The weights of {part} are NaN or infinite in {_told(broken)}: get its files again.")
    if unused := _names(info["unexpected_keys"]):
        say(f"nothing in {part} uses {_told(unused)}")


def _names(found: Iterable[Any]) -> list[str]:
    """transformers tells the shapes beside a misshapen key."""
    return sorted(one if isinstance(one, str) else str(one[0]) for one in found)


def _told(names: list[str]) -> str:
    others = len(names) - 1
    return names[0] + (f" and {others} more" if others else "")
