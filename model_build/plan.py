"""Plan: what is to be built, as the command line or a test says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.bundles.fingerprint import Profile
from darkroom.bundles.manifest import Defaults, Limits
from darkroom.gpu import GRAPHS
from model_build.checkpoints.checkpoint import Checkpoint
from model_build.checkpoints.scheduler import own_sampler
from model_build.layout import PROMPTS


@dataclass(frozen=True)
class Plan:
    """What to build. Sizes in pixels; None: what suits the checkpoint, see `defaults` and `limits`.

    `prompt` and `verify_steps` (None: as many as by default) are for verify and report; `repeats` 0 times nothing.
    `rows` is the most UNet rows that an engine with bounds takes; with `stripped` it has no weights of its own. Memory
    is reckoned for so many `graphs`: UNet shapes that a runtime replays as CUDA graphs under TensorRT.
    `calibration` has the prompts whose images an int8 target is calibrated on. `token_merging` is the share of tokens
    that the UNet merges around its finest self-attention, see `graphs.token_merging`. `controlnets` maps the type
    of each ControlNet to its diffusers folder or hub id. `cache` is what `model_build.cache.calibration` wrote.
    `loras` are files, as `checkpoints.lora` reads them; `vae` is the diffusers folder or hub id of an autoencoder that
    takes the place of the checkpoint's own. `key` is the file of the private key that signs the manifest.
    """

    checkpoint: str
    name: str
    targets: Sequence[str]
    work: Path
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    width: int | None = None
    height: int | None = None
    min_size: int | None = None
    max_size: int | None = None
    max_pixels: int | None = None
    prompt: str = "a large red heart on a blue background"
    verify_steps: int | None = None
    repeats: int = 3
    calibration: Sequence[str] = PROMPTS
    token_merging: float = 0.0
    controlnets: Mapping[str, str] = field(default_factory=dict)
    loras: Sequence[str] = ()
    vae: str | None = None
    cache: Path | None = None
    rows: int = 8
    graphs: int = GRAPHS
    stripped: bool = False
    key: Path | None = None


def defaults(plan: Plan, checkpoint: Checkpoint) -> Defaults:
    """The size is the one the UNet was made for, the sampler the one that the checkpoint's scheduler is, where it is
    one of ours. Where the guidance scale is an input of the UNet, the rest is as in diffusers'
    LatentConsistencyModelPipeline; where such a model was distilled without it, it is drawn without guidance.
    """
    native = checkpoint.native_size
    sampler = own_sampler(checkpoint.configs["scheduler"]) or "ddim"
    steps, guidance = (4, 1.0) if sampler == "lcm" else (25, 7.5)
    if "guidance" in checkpoint.conditions:
        steps, guidance, sampler = 4, 8.5, "lcm"
    return Defaults(
        width=plan.width or native,
        height=plan.height or native,
        num_inference_steps=plan.steps or steps,
        guidance_scale=guidance if plan.guidance is None else plan.guidance,
        sampler=plan.sampler or sampler,
    )


def limits(plan: Plan, checkpoint: Checkpoint) -> Limits:
    """Sides from 64 pixels (or half the native side) to twice the native side, and twice the native area: beyond that a
    Stable Diffusion UNet repeats its subject, and memory grows with the square of the area.
    """
    native, multiple = checkpoint.native_size, checkpoint.downscale
    smallest = min(64, native // 2)
    return Limits(
        min_size=plan.min_size or max(smallest - smallest % multiple, multiple),
        max_size=plan.max_size or 2 * native,
        max_pixels=plan.max_pixels or 2 * native**2,
        multiple_of=multiple,
    )


def profile(plan: Plan, checkpoint: Checkpoint) -> Profile:
    """Which UNet calls an engine with bounds takes: all the limits allow, best at a guided image of default size."""
    usual, bounds, scale = defaults(plan, checkpoint), limits(plan, checkpoint), checkpoint.downscale
    least, most = bounds.min_size // scale, bounds.max_size // scale
    return Profile(
        rows=(1, 2, plan.rows),
        height=(least, usual.height // scale, most),
        width=(least, usual.width // scale, most),
    )
