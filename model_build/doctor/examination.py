"""Examination: what doctor is asked for, and all that this machine lacks for the GPU's targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from darkroom.gpu import CUDA, TENSORRT
from model_build.compile.device import Lack, lacks

TARGETS = {CUDA: "onnx-cuda-fp16", TENSORRT: "tensorrt-fp16"}
REHEARSED = "onnx-cpu-fp16"


class Processor(StrEnum):
    """Where doctor builds and times."""

    GPU = "gpu"
    CPU = "cpu"


class Baseline(StrEnum):
    """Ways to run diffusers itself."""

    FP32 = "fp32"
    FP16 = "fp16"
    COMPILE = "compile"


def examine() -> dict[str, list[Lack]]:
    """What is missing for each of ONNX Runtime's GPU providers; an empty list: nothing."""
    return {provider: lacks(provider) for provider in TARGETS}


def table(missing: Mapping[str, Sequence[Lack]]) -> Table:
    """All that is missing, with the targets that need it, by what to do about it."""
    shown = Table("missing", "for", "what to do", title="This machine lacks", title_justify="left", box=SIMPLE)
    wanting: dict[Lack, list[str]] = {}
    for provider, each in missing.items():
        for lack in each:
            wanting.setdefault(lack, []).append(TARGETS[provider])
    remedies, before = list(dict.fromkeys(lack.remedy for each in missing.values() for lack in each)), ""
    for lack, targets in sorted(wanting.items(), key=lambda item: remedies.index(item[0].remedy)):
        wanted = "both targets" if len(targets) == len(TARGETS) else targets[0]
        shown.add_row(escape(lack.what), wanted, "" if lack.remedy == before else escape(lack.remedy))
        before = lack.remedy
    return shown
