"""What judges the images from the cache: a judge of the checkpoint's own where there is one, else how far they move."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from model_build import BuildRefused

LEAST_PROMPTS = 64


@dataclass(frozen=True)
class PromptPair:
    """A prompt, and the one before it whose image it starts from."""

    before: str
    prompt: str


@runtime_checkable
class Criterion(Protocol):
    """What prompts to measure with, and which images are not what their prompt asks for."""

    name: str

    def prompts(self, count: int, seed: int) -> list[str]: ...

    def pairs(self, count: int, seed: int) -> list[PromptPair]:
        """From the same prompt over small changes to another prompt altogether."""

    def wrong(
        self, prompts: Sequence[str], images: NDArray[np.uint8], moved: NDArray[np.float32], ordinary: float
    ) -> NDArray[np.bool_]:
        """`moved` is how far each uint8 image [n, H, W, 3] is from the one without a cache (mean absolute difference of
        values 0 to 255); `ordinary` is what 95 % of other seeds' images of the same prompt do not exceed.
        """


class Moved:
    """Without a judge: an image is wrong where it moved further than another seed would have moved it."""

    name = "moved"

    def __init__(self, lines: Sequence[str]) -> None:
        """`lines` are prompts as users write them. Raises BuildRefused where they are too few."""
        if len(set(lines)) < LEAST_PROMPTS:
            raise BuildRefused(f"The cache is calibrated on at least {LEAST_PROMPTS} different prompts, a line each.")
        self._lines = list(dict.fromkeys(lines))

    def prompts(self, count: int, seed: int) -> list[str]:
        rng = random.Random(seed)
        return [_edited(rng.choice(self._lines), self._lines, rng, number % 3) for number in range(count)]

    def pairs(self, count: int, seed: int) -> list[PromptPair]:
        rng = random.Random(seed)
        pairs = []
        for number in range(count):
            before = rng.choice(self._lines)
            kind = number % 8
            after = rng.choice(self._lines) if kind == 7 else _edited(before, self._lines, rng, (kind + 1) // 2)
            pairs.append(PromptPair(before, after))
        return pairs

    def wrong(
        self,
        prompts: Sequence[str],  # noqa: ARG002
        images: NDArray[np.uint8],  # noqa: ARG002
        moved: NDArray[np.float32],
        ordinary: float,
    ) -> NDArray[np.bool_]:
        return moved > ordinary


def _edited(prompt: str, lines: Sequence[str], rng: random.Random, edits: int) -> str:
    """The prompt after so many edits: a word left out, or taken from another prompt."""
    words = prompt.split()
    for _ in range(edits):
        at = rng.randrange(len(words)) if words else 0
        if len(words) > 2 and rng.random() < 0.3:
            del words[at]
        else:
            words[at : at + 1] = [rng.choice(rng.choice(lines).split() or [""])]
    return " ".join(words)


def criterion_named(name: str, lines: Sequence[str]) -> Criterion:
    """`moved`, made from the operator's prompts, or `module:attribute`: what is called for one, with nothing.

    Raises BuildRefused for a name that says neither or leads nowhere, and for too few prompts.
    """
    if name == Moved.name:
        return Moved(lines)
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise BuildRefused(f"There is no criterion {name}; use moved, or module:attribute for one of your own.")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError) as refused:
        raise BuildRefused(f"The criterion {name} cannot be imported: {refused}.") from None
    criterion = factory() if callable(factory) else None
    if not isinstance(criterion, Criterion):
        raise BuildRefused(f"{name} makes no criterion: that has a name, prompts, pairs and wrong.")
    return criterion
