"""Strict JSON against the standard library, and against everything that it lets through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from darkroom import strict_json
from darkroom.errors import (
    DarkroomError,
    DuplicateKey,
    InvalidUnicode,
    JsonTooDeep,
    MalformedJson,
    NotFinite,
    PayloadTooLarge,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)
# Fragments of JSON, so that random concatenations come near to being valid.
FRAGMENTS = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ",", ":", '"', '"a"', '"a":1', "\\", "\\u", "\\ud800", '"\\ud83d\\ude00"', "1", "-", "0",
         "1e400", "1e5", ".", "NaN", "-Infinity", "true", "nul", "null", " ", "\n", "\0", "\ufeff", "é", "\x1f", "/*"]
    )
)  # fmt: skip


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_whatever_json_can_say_is_read_as_the_standard_library_reads_it(
    value: Any, ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert strict_json.parse(body) == json.loads(body)


def outcome(body: bytes) -> Any:
    try:
        return strict_json.parse(body)
    except DarkroomError as refused:
        return refused


@given(FRAGMENTS.map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass")) | st.binary())
@example(b"[" * 32 + b"]" * 32)
@example(b"]" * 40 + b"[" * 2000)
@example(b'"' + b"\\" * 100_001)
@example(b"9" * 5000)
@example(b"-1e99999")
@example(b'{"a":' * 31 + b"{}" + b"}" * 31)
def test_any_bytes_are_read_as_the_standard_library_does_or_refused_in_our_words(body: bytes) -> None:
    read = outcome(body)
    if isinstance(read, DarkroomError):
        assert read.status in (400, 422)
    else:
        assert read == json.loads(body)


def refused(body: bytes) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        strict_json.parse(body)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"{",  # row 1
        b"{'prompt': 'a'}",
        b'{"prompt": "a",}',
        b'{"prompt": "a\nb"}',
        b"prompt=a",
        b"[1 2]",
        b'{"prompt": "\\x41"}',
        b'"\\ud83',
        b"01",
        b"+1",
        b"\xef\xbb\xbf{}",
        b"{} {}",  # row 2
        b"{}x",
        b"null\0",
        b'{"prompt": "\xff"}',  # row 3
        b'{"prompt": "\xed\xa0\x80"}',  # a surrogate in UTF-8's clothes
        b'{"prompt": "\xc0\xaf"}',
        '{"prompt": "a"}'.encode("utf-16"),
        b"",  # row 4
        b" ",
    ],
)
def test_rows_1_to_4_malformed(body: bytes) -> None:
    error = refused(body)
    assert isinstance(error, MalformedJson)
    assert error.status == 400


def test_row_5_depth() -> None:
    for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")):
        strict_json.parse(opened * 32 + b"1" + closed * 32)
        for body in (opened * 33 + b"1" + closed * 33, opened * 500 + b"1" + closed * 500, opened * 500_000):
            assert isinstance(refused(body), JsonTooDeep)


def test_where_a_value_lies_is_written_out_only_for_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a long name of an array is copied for each of its values."""
    written = []
    monkeypatch.setattr(strict_json, "pointer", lambda parts: written.append(list(parts)))
    strict_json.parse(json.dumps({"x" * 1_000_000: [0] * 9_000}).encode())
    assert not written
    refused(json.dumps({"x" * 1_000_000: [*[0] * 9_000, "\0"]}).encode())
    assert written == [["x" * 1_000_000, 9_000]]


def test_a_pointer_is_bounded() -> None:
    field = refused(json.dumps({"x" * 1_000_000: ["~" * 1_000_000, "\0"]}).encode()).field
    assert field == "/" + "x" * 199


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"0," * 10_000 + b"0]",
        b"[" + b"0," * 1_000_000 + b"0]",
        b"[" + b"0," * 1_000_000,  # before it is parsed
        json.dumps({str(number): 0 for number in range(200_000)}).encode(),
        b"[" + b"[[]]," * 6_000 + b"[]]",
    ],
)
def test_more_values_than_anything_needs(body: bytes) -> None:
    assert isinstance(refused(body), PayloadTooLarge)


def test_as_many_values_as_are_read() -> None:
    assert len(strict_json.parse(b"[" + b"0," * 9_998 + b"0]")) == 9_999
    assert strict_json.parse(json.dumps({"prompt": "," * 20_000}).encode())["prompt"] == "," * 20_000


@pytest.mark.parametrize("text", ["[" * 100, "{" * 100, '\\"' + "[" * 100, "\\\\" + "[" * 100])
def test_brackets_in_text_are_not_depth(text: str) -> None:
    body = json.dumps({text: [text, '"' + text]}).encode()
    assert strict_json.parse(body) == {text: [text, '"' + text]}


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 1}', b'[{"b": {"a": 1, "c": 2, "a": 3}}]', b'{"a": 1, "\\u0061": 2}'])
def test_row_6_a_key_twice(body: bytes) -> None:
    assert isinstance(refused(body), DuplicateKey)


@pytest.mark.parametrize(
    "body", [b"NaN", b'{"a": [Infinity]}', b"-Infinity", b"1e400", b"-1e400", b"1.0E+99999", b"9" * 5000]
)
def test_rows_12_and_13_numbers_that_are_not_finite(body: bytes) -> None:
    error = refused(body)
    assert isinstance(error, NotFinite)
    assert error.status == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'"\\ud800"', None),
        (b'{"prompt": "a\\udfff"}', "/prompt"),
        (b'{"a": [1, {"b/c~d": "\\ude00\\ud83d"}]}', "/a/1/b~1c~0d"),
        (b'{"\\ud800": 1}', None),
        (b'{"prompt": "a\\u0000b"}', "/prompt"),  # row 15
        (b'{"a\\u0000": 1}', None),
    ],
)
def test_rows_14_and_15_text_that_is_none(body: bytes, field: str | None) -> None:
    error = refused(body)
    assert isinstance(error, InvalidUnicode)
    assert error.field == field
    error.problem().model_dump_json().encode()


@pytest.mark.parametrize("text", ["😀", "שלום", "e\u0301\u0323", "\u202eevil", "\U0010ffff", "\ufffe", "\x7f"])
def test_row_16_all_other_text_passes(text: str) -> None:
    for ascii_only in (True, False):
        assert strict_json.parse(json.dumps({"prompt": text}, ensure_ascii=ascii_only).encode()) == {"prompt": text}
