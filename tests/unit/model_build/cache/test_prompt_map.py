"""The map from prompts to mean images: what it learns, and that the runtime reads it as the build stage does."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from model_build.cache.prompt_map import code, train
from runtime.cache.calibrated import PromptMap


@pytest.fixture(scope="module")
def learnt():
    random = np.random.Generator(np.random.Philox(0))
    causes = random.standard_normal((400, 6)).astype(np.float32)
    embeds = causes @ random.standard_normal((6, 40)).astype(np.float32)
    images = np.tanh(causes) @ random.standard_normal((6, 64)).astype(np.float32)
    weights, explained = train(embeds, images)
    return weights, explained, embeds, images


def test_it_foretells_images_of_prompts_it_has_not_seen(learnt) -> None:
    assert learnt[1] > 0.9


def test_the_runtime_computes_the_same_codes(learnt) -> None:
    weights, _, embeds, _ = learnt
    prompts = PromptMap(save(weights))
    theirs = code(weights, embeds[:3])
    for embed, expected in zip(embeds[:3], theirs, strict=True):
        assert prompts.code(embed.reshape(1, 4, 10)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_two_prompts_images_differ_as_their_codes_say(learnt) -> None:
    weights, _, embeds, images = learnt
    prompts = PromptMap(save(weights))
    moved = prompts.image(prompts.code(embeds[None, 0])) - prompts.image(prompts.code(embeds[None, 1]))
    truth = images[0] - images[1]
    assert np.linalg.norm(moved - truth) < 0.4 * np.linalg.norm(truth)
