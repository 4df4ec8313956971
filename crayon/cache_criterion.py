"""What the cache's calibration asks crayon: edits of its scenes, and the judge's word on every picture."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crayon.judge.judge import read, score
from crayon.scenes.captions import canonical_caption
from crayon.scenes.edits import edited, paraphrase
from crayon.scenes.grammar import Scene, Split, sample_pair, sample_single
from model_build.cache.criterion import PromptPair


class Judged:
    """Prompts of crayon's grammar; a picture is wrong where the judge misses one of its five attributes."""

    name = "judge:crayon"

    def __init__(self) -> None:
        self._scenes: dict[str, Scene] = {}

    def prompts(self, count: int, seed: int) -> list[str]:
        rng = random.Random(seed)
        return [self._captioned(_scene(rng), rng) for _ in range(count)]

    def pairs(self, count: int, seed: int) -> list[PromptPair]:
        """From the same prompt over other words, one edit and two, to another scene altogether."""
        rng = random.Random(seed)
        pairs = []
        for number in range(count):
            scene = _scene(rng)
            before = self._captioned(scene, rng)
            kind = number % 8
            if kind == 0:
                pairs.append(PromptPair(before, before))
                continue
            if kind >= 2:
                scene = _scene(rng) if kind == 7 else edited(scene, rng, edits=2 if kind == 6 else 1)
            pairs.append(PromptPair(before, self._captioned(scene, rng)))
        return pairs

    def wrong(
        self,
        prompts: Sequence[str],
        images: NDArray[np.uint8],
        moved: NDArray[np.float32],  # noqa: ARG002
        ordinary: float,  # noqa: ARG002
    ) -> NDArray[np.bool_]:
        scenes = [self._scenes[prompt] for prompt in prompts]
        marks = score(scenes, read(images))
        return np.array([not (mark.all and mark.size) for mark in marks])

    def _captioned(self, scene: Scene, rng: random.Random) -> str:
        caption = canonical_caption(scene) if rng.random() < 0.5 else paraphrase(scene, rng)
        self._scenes[caption] = scene
        return caption


def _scene(rng: random.Random) -> Scene:
    pick = sample_pair if rng.random() < 0.4 else sample_single
    return pick(rng, Split.TRAIN)
