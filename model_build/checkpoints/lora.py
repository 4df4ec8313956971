"""LoRA: small safetensors files whose weights are added to the checkpoint's before anything is exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import file_sha256

_LAYER = re.compile(r"\.lora_|_lora\.|\.alpha$|\.processor\b")  # behind the layer's name, in each dialect
CHANGED = ("text_encoder", "unet")  # components that a LoRA may change


@dataclass(frozen=True)
class LoraSource:
    """One LoRA on disk, and how much of it is added."""

    path: Path
    sha256: str
    scale: float

    def __str__(self) -> str:
        """What a fingerprint and a manifest say of it."""
        return f"{self.sha256}:{self.scale:g}"


def open_loras(given: Sequence[str]) -> tuple[LoraSource, ...]:
    """`FILE` or `FILE=SCALE` each, in the order in which they are added. Raises: BuildRefused."""
    return tuple(map(_open, given))


def _open(option: str) -> LoraSource:
    named = re.fullmatch(r"(.+?)(?:=(-?\d+(?:\.\d+)?))?", option)
    path = Path(named[1] if named else option)
    if path.suffix != ".safetensors":
        raise BuildRefused(f"--lora {option}: give a .safetensors file, with =SCALE behind it if not all is added.")
    if not path.is_file():
        raise BuildRefused(f"There is no file {path}.")
    return LoraSource(path, file_sha256(path), float(named[2]) if named and named[2] else 1.0)


def merge(pipeline: Any, sources: Sequence[LoraSource], say: Callable[[str], object] = lambda _: None) -> None:
    """Add each LoRA's weights to those of the pipeline's UNet and text encoder, in place.

    `say` is told of layers that the pipeline lacks. Raises: BuildRefused.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for source in sources:
        try:
            weights = load_file(source.path)
            _refuse_dora(source.path.name, weights)
            layers = len({_LAYER.split(name)[0] for name in weights})
            pipeline.load_lora_weights(weights, adapter_name="lora")
            applied = _applied(pipeline)
            pipeline.fuse_lora(lora_scale=source.scale, safe_fusing=True)
            pipeline.unload_lora_weights()
        except (KeyError, RuntimeError, SafetensorError, ValueError) as refused:
            reason = str(refused).strip().split("\n")[0]
            raise BuildRefused(f"{source.path.name} does not fit the checkpoint: {reason}") from None
        if not applied:
            raise BuildRefused(f"{source.path.name} changes nothing of this checkpoint.")
        if applied < layers:
            say(f"of the {layers} layers in {source.path.name} this checkpoint has {applied}; the others were left out")


def _refuse_dora(name: str, weights: Iterable[str]) -> None:
    """kohya's form of it is read as if the magnitudes were not there (Liu et al. 2024, "DoRA", equation 5)."""
    if any(key.endswith(".dora_scale") for key in weights):
        raise BuildRefused(f"{name} is a DoRA in kohya's form (dora_scale), which is not merged here; merge it before.")


def _applied(pipeline: Any) -> int:
    """Layers of the pipeline that a LoRA was put on."""
    parts = (getattr(pipeline, name, None) for name in (*CHANGED, "text_encoder_2"))
    return sum("lora" in getattr(module, "lora_A", ()) for part in parts if part for module in part.modules())
