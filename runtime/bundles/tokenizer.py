"""A prompt -> token ids, equal to those of transformers' CLIPTokenizer, with the `tokenizers` library alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from darkroom.bundles.manifest import TextSpec
from darkroom.errors import EngineIntegrity
from runtime.arrays import Ids


@dataclass(frozen=True, eq=False)
class Tokens:
    """`ids` is int64 [1, max_length]; `dropped` counts the tokens that did not fit."""

    ids: Ids
    dropped: int


class PromptTokenizer:
    """Begin, the prompt's tokens as far as they fit, end, then padding. Safe to use from several threads."""

    def __init__(self, tokenizer_json: bytes, text: TextSpec) -> None:
        """Raises EngineIntegrity when the tokenizer file cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception:  # the library raises bare Exception
            raise EngineIntegrity("The tokenizer cannot be read; build the bundle again.") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._text = text

    def encode(self, prompt: str) -> Tokens:
        text = self._text
        words = self._tokenizer.encode(prompt, add_special_tokens=False).ids
        room = text.max_length - 2
        ids = np.full((1, text.max_length), text.pad_token_id, np.int64)
        framed = [text.bos_token_id, *words[:room], text.eos_token_id]
        ids[0, : len(framed)] = framed
        return Tokens(ids, max(0, len(words) - room))
