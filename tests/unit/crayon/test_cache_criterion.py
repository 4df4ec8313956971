"""The criterion that calibrate-cache takes from crayon reads what was drawn."""

from __future__ import annotations

import random

import numpy as np

from crayon.cache_criterion import Judged
from crayon.scenes.captions import canonical_caption
from crayon.scenes.drawing import draw
from crayon.scenes.grammar import Split, sample_single
from model_build.cache.criterion import criterion_named


def test_the_judge_reads_what_was_drawn() -> None:
    judge = criterion_named("crayon.cache_criterion:Judged", [])
    assert isinstance(judge, Judged)
    pairs = judge.pairs(32, seed=0)
    assert all(pair.before == pair.prompt for pair in pairs[::8])
    scenes = [sample_single(random.Random(seed), Split.TRAIN) for seed in range(8)]
    captions = [canonical_caption(scene) for scene in scenes]
    judge._scenes |= dict(zip(captions, scenes, strict=True))
    images = np.stack([draw(scene, random.Random(1)) for scene in scenes])
    nothing = np.zeros(8, np.float32)
    assert judge.wrong(captions, images, nothing, 0.0).mean() < 0.2
    assert judge.wrong(captions, np.roll(images, 1, 0), nothing, 0.0).mean() > 0.8
