"""Keys: equal where latents may be shared, different in everything else."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.contracts import Control, GenerationRequest
from runtime.cache.scope import cacheable, repeat, scope

REQUEST = GenerationRequest(
    prompt="a cat", width=64, height=64, num_inference_steps=4, guidance_scale=4.0, sampler="ddim", seed=1
)
NEGATIVE = np.zeros((1, 8), np.int64)
PIXEL = "data:image/png;base64,AAAA"


def test_prompt_seed_and_number_of_images_share_a_scope() -> None:
    other = REQUEST.model_copy(update={"prompt": "a dog", "seed": 2, "num_images": 3})
    assert scope("b", "t", REQUEST, NEGATIVE) == scope("b", "t", other, NEGATIVE)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 128},
        {"height": 128},
        {"num_inference_steps": 5},
        {"guidance_scale": 5.0},
        {"guidance_scale": 1.0},
        {"sampler": "euler"},
    ],
)
def test_whatever_shapes_latents_is_in_the_key(change) -> None:
    assert scope("b", "t", REQUEST, NEGATIVE) != scope("b", "t", REQUEST.model_copy(update=change), NEGATIVE)


def test_bundle_tenant_and_negative_prompt_are_in_the_key() -> None:
    mine = scope("b", "t", REQUEST, NEGATIVE)
    assert mine != scope("other", "t", REQUEST, NEGATIVE)
    assert mine != scope("b", "other", REQUEST, NEGATIVE)
    assert mine != scope("b", "t", REQUEST, NEGATIVE + 1)


def test_guidance_scales_of_one_bucket_share_a_scope() -> None:
    near = REQUEST.model_copy(update={"guidance_scale": 4.1})
    assert scope("b", "t", REQUEST, NEGATIVE) == scope("b", "t", near, NEGATIVE)


@pytest.mark.parametrize(
    "change",
    [
        {"cache": "off"},
        {"image": PIXEL, "strength": 0.5},
        {"image": PIXEL, "mask": PIXEL},
        {"control": [Control(image=PIXEL)]},
    ],
)
def test_images_brought_along_and_cache_off_are_not_cached(change) -> None:
    assert cacheable(REQUEST)
    assert not cacheable(REQUEST.model_validate({**REQUEST.model_dump(), **change}))


def test_a_repeat_is_the_same_in_all_but_how_many() -> None:
    mine = repeat("b", "t", REQUEST, 1)
    assert mine == repeat("b", "t", REQUEST.model_copy(update={"num_images": 4}), 1)
    assert mine != repeat("b", "t", REQUEST, 2)
    assert mine != repeat("b", "t", REQUEST.model_copy(update={"cache": "on"}), 1)
    assert mine != repeat("b", "other", REQUEST, 1)
    assert mine != repeat("b", "t", REQUEST.model_copy(update={"prompt": "a  cat"}), 1)
    assert mine != repeat("b", "t", REQUEST.model_copy(update={"guidance_scale": 4.1}), 1)
