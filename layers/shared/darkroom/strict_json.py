"""Bytes from a stranger -> JSON values, refusing what `json.loads` lets through."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

from darkroom.errors import DuplicateKey, InvalidUnicode, JsonTooDeep, MalformedJson, NotFinite, PayloadTooLarge

MAX_DEPTH = 32
MAX_VALUES = 10_000
# A document has no more values than commas and levels, but commas of texts count too: those of two prompts, and more.
_MAX_COMMAS = 100_000
_EXACT = 2**53  # beyond it a float is one of several integers
_LONGEST_POINTER = 200  # a member's name may be the caller's invention

Path = tuple["Path", str | int] | None  # of a value: that of what holds it, and its name or place in there


def parse(body: bytes) -> Any:
    """Parse one JSON document, in a time that its size bounds: some 10 ms for one of 2 MB, whatever is in it.

    Stricter than the standard library where that is silent: duplicate keys, NaN, infinities (also by overflow, 1e400),
    lone surrogates, NUL, nesting over `MAX_DEPTH`, and more than `MAX_VALUES` values.

    Raises: MalformedJson, JsonTooDeep, PayloadTooLarge, DuplicateKey, NotFinite, InvalidUnicode.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None
    if text.count(",") > _MAX_COMMAS:
        _refuse_many()
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        _refuse_deep()
    except json.JSONDecodeError:
        raise MalformedJson("The body is not one JSON document.") from None
    except ValueError:  # an integer of more digits than int() takes: sys.set_int_max_str_digits
        raise NotFinite("A number has too many digits.") from None
    _refuse_what_is_wild(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateKey("A member of an object occurs more than once.")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise NotFinite("NaN and Infinity are not JSON.")


def _finite(text: str) -> float | int:
    """1.0 is the integer that 1 is, in JavaScript as in JSON Schema (draft 2020-12, validation, 6.1.1)."""
    value = float(text)
    if not math.isfinite(value):
        raise NotFinite("A number is too large.")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _refuse_deep() -> NoReturn:
    raise JsonTooDeep(f"At most {MAX_DEPTH} levels of nesting are read.")


def _refuse_many() -> NoReturn:
    raise PayloadTooLarge(f"At most {MAX_VALUES} values are read.")


def _refuse_what_is_wild(document: Any) -> None:
    """Look at every value; where it lies is only written out where something is wrong with it."""
    level: list[tuple[Any, Path]] = [(document, None)]
    seen = depth = 0
    while level:
        seen += len(level)
        if seen > MAX_VALUES:
            _refuse_many()
        below: list[tuple[Any, Path]] = []
        for value, path in level:
            if isinstance(value, str):
                _refuse_bad_text(value, path)
                continue
            members: Iterable[tuple[str | int, Any]] = ()
            if isinstance(value, dict):
                members = value.items()
                for name in value:
                    _refuse_bad_text(name, None)
            elif isinstance(value, list):
                members = enumerate(value)
            else:
                continue
            if depth == MAX_DEPTH:
                _refuse_deep()
            below += ((member, (path, name)) for name, member in members)
        level = below
        depth += 1


def _refuse_bad_text(text: str, path: Path) -> None:
    if "\0" in text:
        raise InvalidUnicode("Text may not hold NUL.", field=_pointer(path))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidUnicode("Text may not hold a lone surrogate.", field=_pointer(path)) from None


def _pointer(path: Path) -> str | None:
    parts = []
    while path is not None:
        path, name = path
        parts.append(name)
    return pointer(reversed(parts))


def pointer(parts: Iterable[str | int]) -> str | None:
    """A JSON pointer (RFC 6901), cut where it is long; None for the document itself."""
    written = (str(part)[:_LONGEST_POINTER].replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in written)[:_LONGEST_POINTER] or None
