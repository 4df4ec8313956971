"""What EventBridge and Application Auto Scaling take as a schedule: at(), rate(), and cron() of six fields."""

from __future__ import annotations

import re
from datetime import datetime

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
# Of each field: least, most, names (the first is worth `least`), and what stands for itself.
_FIELDS: tuple[tuple[int, int, list[str], str], ...] = (
    (0, 59, [], ""),
    (0, 23, [], ""),
    (1, 31, [], r"\?|L|LW|\d+W"),
    (1, 12, _MONTHS, ""),
    (1, 7, _DAYS, r"\?|L|(?:[1-7]|[A-Z]{3})L|(?:[1-7]|[A-Z]{3})#[1-5]"),
    (1970, 2199, [], ""),
)
_RATE = re.compile(r"rate\((?:1 (?:minute|hour|day)|(?:[2-9]|[1-9]\d+) (?:minutes|hours|days))\)")


def is_legal(schedule: str) -> bool:
    """Whether the services take it."""
    if _RATE.fullmatch(schedule):
        return True
    match = re.fullmatch(r"(at|cron)\((.*)\)", schedule)
    if match is None:
        return False
    return _is_instant(match[2]) if match[1] == "at" else _is_cron(match[2].split(" "))


def _is_instant(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%S")  # noqa: DTZ007 (the zone is said beside it)
    except ValueError:
        return False
    return True


def _is_cron(fields: list[str]) -> bool:
    if len(fields) != len(_FIELDS) or not all(map(_is_field, fields, _FIELDS)):
        return False
    return (fields[2] == "?") != (fields[4] == "?")  # the day is said once


def _is_field(text: str, field: tuple[int, int, list[str], str]) -> bool:
    least, most, names, alone = field
    if alone and re.fullmatch(alone, text):
        return True
    return all(_is_part(part, least, most, names) for part in text.split(","))


def _is_part(text: str, least: int, most: int, names: list[str]) -> bool:
    match = re.fullmatch(r"(\*|\w+(?:-\w+)?)(?:/([1-9]\d*))?", text)
    if match is None:
        return False
    if match[1] == "*":
        return True
    ends = [names.index(one) + least if one in names else _number(one) for one in match[1].split("-")]
    return all(least <= one <= most for one in ends) and ends == sorted(ends)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1
