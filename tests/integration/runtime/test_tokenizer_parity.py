"""Token ids equal those of transformers' CLIPTokenizer, for any text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from runtime.bundles.tokenizer import PromptTokenizer

PROMPTS = [
    "",
    " ",
    "a red cat",
    "A  RED\tcat\n\non   it",
    "it's a cat's; they've 1,234 cats!!!",
    "\U0001f600\U0001f9d1\u200d\U0001f680 cat",
    "\u05d7\u05ea\u05d5\u05dc \u0642\u0637\u0629 \u200fcat\u200e",
    "e\u0301 \u00e9 \u1e9b\u0323 \ufb01",
    "\u732b\u304c\u3044\u308b",
    "<|endoftext|> cat <|startoftext|>",
    "<|endoftext|>",
    "caf\u00e9 na\u00efve \u0130stanbul \u00df",
    "a" * 300,
    "cat " * 200,
    "\u0001\u0007\u00ad\ufeff\u2028cat",
]


@pytest.fixture(scope="module")
def theirs(tiny_checkpoint: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(tiny_checkpoint / "tokenizer")


@pytest.fixture(scope="module")
def ours(load) -> PromptTokenizer:
    return load("onnx-cpu").tokenizer


def ids_of(tokenizer: CLIPTokenizer, prompt: str) -> list[list[int]]:
    return tokenizer([prompt], padding="max_length", max_length=77, truncation=True)["input_ids"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_are_those_of_transformers(ours: PromptTokenizer, theirs: CLIPTokenizer, prompt: str) -> None:
    assert ours.encode(prompt).ids.tolist() == ids_of(theirs, prompt)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=120))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_ids_are_those_of_transformers_for_any_text(ours: PromptTokenizer, theirs: CLIPTokenizer, prompt: str) -> None:
    assert ours.encode(prompt).ids.tolist() == ids_of(theirs, prompt)


def test_truncation_is_told_exactly(ours: PromptTokenizer, theirs: CLIPTokenizer) -> None:
    for prompt in PROMPTS:
        whole = len(theirs(prompt)["input_ids"])
        assert ours.encode(prompt).dropped == max(0, whole - 77)
