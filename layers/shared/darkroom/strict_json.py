"""Bytes from a stranger -> JSON values, refusing what `json.loads` lets through."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from darkroom.errors import DuplicateKey, InvalidUnicode, JsonTooDeep, MalformedJson, NotFinite

MAX_DEPTH = 32
_BRACKET_OR_STRING = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def parse(body: bytes) -> Any:
    """Parse one JSON document.

    Stricter than the standard library where that is silent: duplicate keys, NaN, infinities (also by overflow, 1e400),
    lone surrogates, NUL, and nesting over `MAX_DEPTH` (which would otherwise be a RecursionError).

    Raises: MalformedJson, JsonTooDeep, DuplicateKey, NotFinite, InvalidUnicode.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None
    _refuse_deep(text)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except (json.JSONDecodeError, RecursionError):
        raise MalformedJson("The body is not one JSON document.") from None
    except ValueError:  # an integer of more digits than int() takes: sys.set_int_max_str_digits
        raise NotFinite("A number has too many digits.") from None
    _refuse_bad_text(value)
    return value


def _refuse_deep(text: str) -> None:
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonTooDeep(f"At most {MAX_DEPTH} levels of nesting are read.")
        elif token[0] in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateKey("A member of an object occurs more than once.")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise NotFinite("NaN and Infinity are not JSON.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotFinite("A number is too large.")
    return value


def _refuse_bad_text(value: Any, pointer: str = "") -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidUnicode("Text may not hold NUL.", field=pointer or None)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidUnicode("Text may not hold a lone surrogate.", field=pointer or None) from None
    elif isinstance(value, dict):
        for key, member in value.items():
            _refuse_bad_text(key)
            _refuse_bad_text(member, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _refuse_bad_text(member, f"{pointer}/{index}")
