"""LoRA: small safetensors files whose weights are added to the checkpoint's before anything is exported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import file_sha256

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


def merge(pipeline: Any, sources: Sequence[LoraSource]) -> None:
    """Add each LoRA's weights to those of the pipeline's UNet and text encoder, in place. Raises: BuildRefused."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for source in sources:
        try:
            pipeline.load_lora_weights(load_file(source.path), adapter_name="lora")
            applied = any(pipeline.get_list_adapters().values())
            pipeline.fuse_lora(lora_scale=source.scale, safe_fusing=True)
            pipeline.unload_lora_weights()
        except (KeyError, RuntimeError, SafetensorError, ValueError) as refused:
            reason = str(refused).strip().split("\n")[0]
            raise BuildRefused(f"{source.path.name} does not fit the checkpoint: {reason}") from None
        if not applied:
            raise BuildRefused(f"{source.path.name} changes nothing of this checkpoint.")
