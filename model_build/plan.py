"""Plan: what is to be built, as the command line or a test says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_build.layout import PROMPTS


@dataclass(frozen=True)
class Plan:
    """What to build. Sizes in pixels; None: derived from the checkpoint, see `Build.defaults` and `Build.limits`.

    `prompt` and `verify_steps` (None: as many as by default) are for verify and report; `repeats` 0 times nothing.
    `calibration` has the prompts whose images an int8 target is calibrated on. `token_merging` is the share of tokens
    that the UNet merges around its finest self-attention, see `model_build.token_merging`.
    """

    checkpoint: str
    name: str
    targets: Sequence[str]
    work: Path
    steps: int = 25
    guidance: float = 7.5
    sampler: str = "ddim"
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
