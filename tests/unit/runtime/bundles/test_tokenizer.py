"""Prompt -> ids: framed, cut to what fits, padded."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.errors import EngineIntegrity
from runtime.bundles.tokenizer import PromptTokenizer


@pytest.fixture
def tokenizer(bundle) -> PromptTokenizer:
    return bundle.tokenizer


def test_a_prompt_is_framed_and_padded(tokenizer: PromptTokenizer) -> None:
    tokens = tokenizer.encode("a cat")
    assert tokens.ids.tolist() == [[0, 3, 4, 1, 1, 1, 1, 1]]
    assert tokens.ids.dtype == np.int64
    assert tokens.dropped == 0


def test_an_empty_prompt_is_begin_and_end(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.encode("").ids.tolist() == [[0, 1, 1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(("words", "dropped"), [(5, 0), (6, 0), (7, 1), (500, 494)])
def test_what_does_not_fit_is_dropped_and_told(tokenizer: PromptTokenizer, words: int, dropped: int) -> None:
    tokens = tokenizer.encode("dog " * words)
    assert tokens.ids.shape == (1, 8)
    assert tokens.ids[0, -1] == 1
    assert tokens.dropped == dropped


def test_a_damaged_file_is_refused(manifest) -> None:
    with pytest.raises(EngineIntegrity, match="tokenizer"):
        PromptTokenizer(b"{}", manifest.text)
