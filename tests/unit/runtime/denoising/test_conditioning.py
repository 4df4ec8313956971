"""Conditioning: what the UNet is told, for each kind of checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from darkroom.errors import GenerationInvalid
from runtime.denoising.conditioning import Conditioning


@pytest.fixture
def conditioning(bundle):
    def conditioning(text: dict[str, Any] | None = None, conditions: tuple[str, ...] = ()) -> Conditioning:
        spec = bundle.manifest.text.model_copy(update=text or {})
        manifest = bundle.manifest.model_copy(update={"text": spec, "conditions": list(conditions)})
        return Conditioning(bundle.engine, manifest, ids(bundle, ""))

    return conditioning


def ids(bundle, prompt: str) -> np.ndarray:
    return bundle.tokenizer.encode(prompt).ids


def with_pooled(bundle, monkeypatch) -> None:
    plain = bundle.engine.encode
    monkeypatch.setattr(
        bundle.engine, "encode", lambda ids: {**plain(ids), "text_embeds": ids[:, :3].astype(np.float32)}
    )


def test_the_empty_prompt_is_encoded_once(conditioning, bundle, engine) -> None:
    made = conditioning()
    for prompt in ("", "", "cat"):
        made.rows(ids(bundle, prompt), None, 32, 32, 1.0)
    made.rows(ids(bundle, "cat"), ids(bundle, ""), 32, 32, 4.0)
    assert engine.encoded == 3


def test_the_negative_row_is_first_and_nothing_is_told_that_the_unet_does_not_take(conditioning, bundle) -> None:
    found = conditioning().rows(ids(bundle, "cat"), ids(bundle, "dog"), 32, 64, 4.0)
    assert found.keys() == {"prompt_embeds"}
    assert found["prompt_embeds"][:, :, 0].tolist() == [ids(bundle, "dog")[0].tolist(), ids(bundle, "cat")[0].tolist()]


def test_sdxl_is_told_sizes_and_pooled_embeddings(conditioning, bundle, monkeypatch) -> None:
    with_pooled(bundle, monkeypatch)
    made = conditioning({"pooled_dim": 3, "zero_negative": True}, ("text_embeds", "time_ids"))
    found = made.rows(ids(bundle, "cat"), ids(bundle, ""), 32, 64, 4.0)
    assert found.keys() == {"prompt_embeds", "text_embeds", "time_ids"}
    assert found["time_ids"].tolist() == [[64, 32, 0, 0, 64, 32]] * 2
    assert not found["prompt_embeds"][0].any()
    assert not found["text_embeds"][0].any()
    assert found["text_embeds"][1].tolist() == ids(bundle, "cat")[0, :3].tolist()
    asked = made.rows(ids(bundle, "cat"), ids(bundle, "dog"), 32, 64, 4.0)
    assert asked["text_embeds"][0].tolist() == ids(bundle, "dog")[0, :3].tolist()
    alone = made.rows(ids(bundle, ""), None, 32, 64, 1.0)
    assert alone["prompt_embeds"].any()  # an empty prompt is no negative prompt


def test_the_guidance_scale_is_an_input_where_the_unet_takes_it(conditioning, bundle) -> None:
    found = conditioning(conditions=("guidance",)).rows(ids(bundle, "cat"), None, 32, 32, 8.5)
    assert found["guidance"].tolist() == [8.5]


def test_an_embedding_that_is_not_finite_is_no_image(conditioning, bundle, monkeypatch) -> None:
    monkeypatch.setattr(bundle.engine, "encode", lambda _: {"prompt_embeds": np.full((1, 8, 4), np.nan, np.float32)})
    with pytest.raises(GenerationInvalid):
        conditioning().rows(ids(bundle, "cat"), None, 32, 32, 1.0)
