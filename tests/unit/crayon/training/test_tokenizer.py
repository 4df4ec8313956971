"""One tokenizer file serves transformers (build stage) and tokenizers (runtime) alike."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from crayon.training.checkpoint import CHECKPOINT
from crayon.training.tokenizer import MAX_TOKENS, build_tokenizer, save_tokenizer, token_ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(build_tokenizer(), saved)
    return saved


@pytest.fixture(scope="module")
def reference(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def alone(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "a large red heart on a blue background",
        "A Large RED  heart\n on a\tblue background, at night!",
        "a zebra's naïve façade № 7 — 42",
        "日本の桜 🌸 👩‍👩‍👧‍👦 é e\u0301",
        "<|endoftext|> a <|startoftext|>",
        "مرحبا بالعالم",
        "a\x00b\u200bc",
    ],
)
def test_both_libraries_give_the_same_ids(reference: CLIPTokenizer, alone: Tokenizer, text: str) -> None:
    assert alone.encode(text).ids == reference(text).input_ids


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_both_libraries_agree_on_any_text(reference: CLIPTokenizer, alone: Tokenizer, text: str) -> None:
    assert alone.encode(text).ids == reference(text).input_ids


def test_padding_by_hand_is_what_the_pipeline_does(folder: Path, reference: CLIPTokenizer, alone: Tokenizer) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == MAX_TOKENS
    pad = alone.token_to_id(config["pad_token"])
    text = "a red star above a blue fish"
    ids = alone.encode(text).ids
    assert ids + [pad] * (MAX_TOKENS - len(ids)) == token_ids(reference, [text])[0]


def test_nothing_about_this_machine_is_saved(folder: Path) -> None:
    for path in folder.iterdir():
        assert str(Path.cwd()) not in path.read_text()


def test_training_is_deterministic() -> None:
    assert build_tokenizer().get_vocab() == build_tokenizer().get_vocab()


def test_the_bundled_tokenizer_is_the_one_this_code_trains(reference: CLIPTokenizer) -> None:
    bundled = Tokenizer.from_file(str(CHECKPOINT / "tokenizer" / "tokenizer.json"))
    assert bundled.get_vocab() == reference.get_vocab()
