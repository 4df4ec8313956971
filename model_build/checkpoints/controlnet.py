"""ControlNets: diffusers folders or hub ids -> what the build needs of each, or why it does not fit the checkpoint."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.bundles.manifest import ControlNet, ControlSpec, Residual
from model_build import BuildRefused
from model_build.checkpoints.checkpoint import Checkpoint, file_sha256, folder_of, read_json, refuse_pickles

COMPONENT = "controlnet_"
MID = "mid_residual"
_TYPE = re.compile(r"[a-z0-9_]{1,32}")
_SHAPE = ("block_out_channels", "cross_attention_dim", "down_block_types", "in_channels", "layers_per_block")
_READ = (".json", ".safetensors")
_DEFAULTS: dict[str, Any] = {  # diffusers', of both networks
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1280,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
}
_EMBEDDING_CHANNELS = [16, 32, 96, 256]


@dataclass(frozen=True)
class ControlNetSource:
    """One ControlNet on disk: its type, folder, and the SHA-256 over all files that are read of it."""

    type: str
    folder: Path
    sha256: str

    @property
    def component(self) -> str:
        return f"{COMPONENT}{self.type}"


def open_controlnets(given: Mapping[str, str], checkpoint: Checkpoint) -> tuple[ControlNetSource, ...]:
    """The ControlNets by type, in the order given. Raises: BuildRefused."""
    return tuple(_open(kind, source, checkpoint) for kind, source in given.items())


def control_spec(sources: tuple[ControlNetSource, ...], checkpoint: Checkpoint) -> ControlSpec | None:
    """What the manifest says of them; None without any."""
    if not sources:
        return None
    nets = [ControlNet(type=source.type, component=source.component) for source in sources]
    return ControlSpec(nets=nets, residuals=residuals(checkpoint.configs["unet"]))


def residuals(unet: Mapping[str, Any]) -> list[Residual]:
    """The residuals that a UNet of this config adds, as UNet2DConditionModel's down path collects them.

    One after the first convolution, one after each layer of a block, and one after each halving, which all blocks but
    the last end with; then the middle.
    """
    channels, layers = _value(unet, "block_out_channels"), _value(unet, "layers_per_block")
    counts = [layers] * len(channels) if isinstance(layers, int) else layers
    shapes = [(channels[0], 1)]
    for block, (width, count) in enumerate(zip(channels, counts, strict=True)):
        shapes += [(width, 2**block)] * count
        if block < len(channels) - 1:
            shapes.append((width, 2 ** (block + 1)))
    down = [
        Residual(name=f"down_residual_{index}", channels=width, shrink=shrink)
        for index, (width, shrink) in enumerate(shapes)
    ]
    return [*down, Residual(name=MID, channels=channels[-1], shrink=2 ** (len(channels) - 1))]


def _open(kind: str, source: str, checkpoint: Checkpoint) -> ControlNetSource:
    if not _TYPE.fullmatch(kind):
        raise BuildRefused(f"{kind} is no type of a ControlNet: use lower-case letters, digits and underscores.")
    folder = folder_of(source, [f"*{end}" for end in _READ])
    if not (folder / "config.json").is_file():
        raise BuildRefused(f"{source} is no ControlNet in diffusers' form: it has no config.json.")
    refuse_pickles(folder, source)
    config = read_json(folder / "config.json")
    class_name = config.get("_class_name")
    if class_name != "ControlNetModel":
        raise BuildRefused(f"{source} is a {class_name}; only a ControlNetModel can be built.")
    _refuse_misfit(source, config, checkpoint)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _READ)
    lines = "".join(f"{file_sha256(path)}  {path.name}\n" for path in files)
    return ControlNetSource(kind, folder, hashlib.sha256(lines.encode()).hexdigest())


def _refuse_misfit(source: str, config: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    if checkpoint.conditions:
        conditions = ", ".join(checkpoint.conditions)
        raise BuildRefused(f"A UNet that takes {conditions} cannot be built with a ControlNet yet; build it without.")
    unet = checkpoint.configs["unet"]
    for key in _SHAPE:
        if _value(config, key) != _value(unet, key):
            raise BuildRefused(
                f"The ControlNet {source} was made for another checkpoint: its {key} is {_value(config, key)}, "
                f"the UNet's {_value(unet, key)}."
            )
    if 2 ** (len(config.get("conditioning_embedding_out_channels") or _EMBEDDING_CHANNELS) - 1) != checkpoint.downscale:
        raise BuildRefused(f"The ControlNet {source} takes images of another scale than the checkpoint's decoder.")
    for key in ("global_pool_conditions", "class_embed_type", "addition_embed_type", "encoder_hid_dim_type"):
        if config.get(key):
            raise BuildRefused(f"The ControlNet {source} has {key} set, which is not supported.")


def _value(config: Mapping[str, Any], key: str) -> Any:
    value = config.get(key, _DEFAULTS[key])
    return list(value) if isinstance(value, tuple) else value
