"""Trains crayon's CLIP tokenizer: byte-level BPE over captions, one file for transformers and tokenizers alike."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from crayon.scenes.captions import canonical_caption, caption_variant
from crayon.scenes.grammar import Split, sample_pair, sample_single

MAX_TOKENS = 32
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
# CLIP's own rule for what a word is, without the English contractions that no caption has.
_WORDS = r"""[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def _captions(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for index in range(count):
        scene = sample_pair(rng, Split.TRAIN) if index % 2 else sample_single(rng, Split.TRAIN)
        yield caption_variant(scene, rng)
        yield canonical_caption(scene)


def _learn_merges(seed: int) -> list[tuple[str, str]]:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END, continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=2,
        end_of_word_suffix=_WORD_END,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_captions(10_000, seed), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def build_tokenizer(seed: int = 0) -> CLIPTokenizer:
    """A CLIP tokenizer in which every word of a caption is one token and any other text falls back to bytes."""
    merges = _learn_merges(seed)
    vocabulary: dict[str, int] = {}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(piece + _WORD_END for piece in alphabet), *(left + right for left, right in merges)]
    for piece in [*pieces, _START, _END]:
        vocabulary.setdefault(piece, len(vocabulary))
    # transformers declares strings here and hands what it gets to tokenizers, which wants pairs.
    return CLIPTokenizer(vocab=vocabulary, merges=cast(Any, merges), model_max_length=MAX_TOKENS)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, with nothing in them that depends on this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config_path = folder / "tokenizer_config.json"
    config = json.loads(config_path.read_text())
    for machine_dependent in ("is_local", "local_files_only", "name_or_path"):
        config.pop(machine_dependent, None)
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    """Each text as exactly `MAX_TOKENS` ids, padded or cut as the pipeline does."""
    encoded = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True)
    return [list(ids) for ids in encoded.input_ids]
