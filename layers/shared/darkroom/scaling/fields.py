"""The written forms inside a policy: durations, times of day, days of the week, dates, zones and cron expressions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?")
_ISO_DURATION = re.compile(r"^P(\d+D)?(?:T(?=\d)([\dHMS]+))?$")  # ISO 8601, as other tools write it: PT10M
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_HOURS = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)")
EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 (wall clock: where the search for a cron's first firing starts)


def refuse(message: str) -> PydanticCustomError:
    """A finding in our own words; `document` puts it into the answer as it is."""
    return PydanticCustomError("invalid_policy", "{message}", {"message": message})


def _duration(value: Any) -> timedelta:
    text = _ISO_DURATION.sub(r"\1\2", value).lower() if isinstance(value, str) else ""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        raise refuse("write a duration such as 20s, 15m, 1h30m or 2d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def written_duration(value: timedelta) -> str:
    """`timedelta` back to the form it is written in: 90 minutes -> `1h30m`."""
    minutes, seconds = divmod(int(value.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = f"{hours}h" * bool(hours) + f"{minutes}m" * bool(minutes) + f"{seconds}s" * bool(seconds)
    return parts or "0s"


def _time_of_day(text: str) -> int:
    """Minutes since midnight; 24:00 is the end of the day."""
    if text == "24:00":
        return 1440
    match = _TIME.fullmatch(text)
    if not match:
        raise refuse("write a time of day such as 09:00")
    return 60 * int(match[1]) + int(match[2])


def minutes_of(hours: str) -> tuple[int, int]:
    """`22:00-06:00` -> opening and closing minute, counted from the midnight before the opening: (1320, 1800)."""
    match = _HOURS.fullmatch(hours)
    if not match:
        raise refuse("write hours such as 09:00-18:00, or 22:00-06:00 across midnight")
    opening, closing = _time_of_day(match[1]), _time_of_day(match[2])
    if opening == closing or opening == 1440:
        raise refuse("the window has no length: its hours begin and end at the same time")
    return opening, closing if closing > opening else closing + 1440


def minute_of(at: str) -> int:
    """`09:00` -> 540."""
    return _time_of_day(at) % 1440


def weekdays_of(days: str) -> frozenset[int]:
    """`mon-fri` or `sat,sun` -> weekdays, Monday 0. A range may wrap: `fri-mon`."""
    chosen: set[int] = set()
    for piece in days.lower().split(","):
        first, _, last = piece.strip().partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise refuse("name days such as mon, mon-fri or sat,sun")
        start, count = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7 + 1
        chosen.update((start + offset) % 7 for offset in range(count))
    return frozenset(chosen)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> str:
    if name not in _zones():
        raise refuse("there is no such time zone; use an IANA name such as Asia/Shanghai")
    return name


def _cron(expression: str) -> str:
    if len(expression.split()) != 5:
        raise refuse("write a cron expression of five fields: minute, hour, day, month, weekday")
    try:
        next(CronSim(expression, EPOCH))
    except (CronSimError, StopIteration):
        # cronsim also says so of a day that no month has, such as 31 February
        raise refuse("this cron expression never fires or cannot be read") from None
    return expression


def _iso(kind: type[date], form: str, refusal: str) -> BeforeValidator:
    """Text of this form, read as a date or a time."""

    def read(value: Any) -> date:
        try:
            if isinstance(value, str) and re.fullmatch(form, value):
                return kind.fromisoformat(value)
        except ValueError:
            pass
        raise refuse(refusal)

    return BeforeValidator(read)


def _taken(read: Callable[[str], object]) -> AfterValidator:
    """The text as it was written, where `read` takes it."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


_DATE, _MINUTE = r"\d{4}-\d{2}-\d{2}", r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:00)?"
Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(written_duration)]
Hours = Annotated[str, _taken(minutes_of)]
TimeOfDay = Annotated[str, _taken(minute_of)]
Days = Annotated[str, _taken(weekdays_of)]
Zone = Annotated[str, AfterValidator(_zone)]
Cron = Annotated[str, AfterValidator(_cron)]
Date = Annotated[date, _iso(date, _DATE, "write a date that exists, such as 2026-12-24")]
LocalMinute = Annotated[
    datetime, _iso(datetime, _MINUTE, "write a date and time in the policy's time zone, such as 2026-12-24T18:00")
]
