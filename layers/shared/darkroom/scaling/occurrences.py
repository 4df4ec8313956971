"""When the windows of a policy are open and its pins fire, in UTC. Cron is read by cronsim, on the wall clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import islice

from cronsim import CronSim

from darkroom.errors import InvalidPolicy
from darkroom.scaling.fields import minute_of, minutes_of, weekdays_of
from darkroom.scaling.policy import Pin, ScalingPolicy, Window
from darkroom.scaling.wall_clock import firing, reached, wall_of

DAY = timedelta(days=1)
MOST_OCCURRENCES = 50_000
# How far back an opening or a pin that still holds is looked for; a yearly cron is found.
LOOK_BACK = timedelta(days=367)


@dataclass(frozen=True)
class Opening:
    """One time a window is open: from `opens` (included) to `closes` (excluded), UTC."""

    index: int
    window: Window
    opens: datetime
    closes: datetime


@dataclass(frozen=True)
class Firing:
    """One instant, UTC, from which a pin holds."""

    index: int
    pin: Pin
    at: datetime


def openings(policy: ScalingPolicy, start: datetime, end: datetime) -> list[Opening]:
    """All openings that overlap [start, end), by window. Raises InvalidPolicy where there are absurdly many."""
    openings: list[Opening] = []
    for index, window in enumerate(policy.windows):
        every = _by_cron if window.cron else _by_hours
        spans = list(islice(every(window, policy.zone_of(window), start, end), MOST_OCCURRENCES + 1))
        if len(spans) > MOST_OCCURRENCES:
            raise InvalidPolicy("This window opens too often; use hours instead.", field=f"/windows/{index}/cron")
        openings += (Opening(index, window, a, b) for a, b in spans if a < b and a < end and b > start)
    return openings


def firings(policy: ScalingPolicy, start: datetime, end: datetime) -> list[Firing]:
    """The pins' firings before `end` by time, from the last one before `start` on (it still holds there)."""
    firings: list[Firing] = []
    for index, pin in enumerate(policy.schedule):
        name = policy.zone_of(pin)
        instants = list(islice(_instants(pin, name, start - LOOK_BACK, end), MOST_OCCURRENCES + 1))
        if len(instants) > MOST_OCCURRENCES:
            raise InvalidPolicy("This pin fires too often.", field=f"/schedule/{index}/cron")
        firings += (Firing(index, pin, at) for at in instants if at < end)
    firings.sort(key=lambda one: (one.at, one.index))
    earlier = [one for one in firings if one.at <= start]
    return earlier[-1:] + [one for one in firings if one.at > start]


def never_opens(window: Window, zone_name: str) -> bool:
    """Whether its dates leave a window no opening at all. A window without a last day is taken to open some day."""
    if window.first_day is None or window.last_day is None or window.last_day - window.first_day > 2 * LOOK_BACK:
        return False
    start = reached(datetime.combine(window.first_day, time()), zone_name)
    end = reached(datetime.combine(window.last_day + DAY, time()), zone_name)
    every = _by_cron if window.cron else _by_hours
    return not any(a < b and start <= a < end for a, b in every(window, zone_name, start, end))


def _dates(part: Window | Pin, first: date, last: date) -> Iterator[date]:
    """The dates on which a part with days recurs."""
    weekdays = weekdays_of(part.days) if part.days else frozenset(range(7))
    day = max(first, part.first_day or first)
    last = min(last, part.last_day or last)
    while day <= last:
        if day.weekday() in weekdays and day not in part.exceptions:
            yield day
        day += DAY


def _walls(part: Window | Pin, first: datetime, last: datetime) -> Iterator[datetime]:
    """The wall-clock times at which a part's cron fires, whether the clock shows them or not."""
    assert part.cron is not None  # noqa: S101 (the policy allows no part without hours, at or cron)
    for wall in CronSim(part.cron, first - timedelta(minutes=1)):
        if wall > last or (part.last_day and wall.date() > part.last_day):
            return
        if (part.first_day is None or wall.date() >= part.first_day) and wall.date() not in part.exceptions:
            yield wall


def _by_hours(window: Window, name: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Hours name the clock: what falls into a gap begins, or ends, when the gap does."""
    opening, closing = (timedelta(minutes=minutes) for minutes in minutes_of(window.hours or ""))
    for day in _dates(window, wall_of(start, name).date() - 2 * DAY, wall_of(end, name).date()):
        midnight = datetime.combine(day, time())
        yield reached(midnight + opening, name), reached(midnight + closing, name)


def _by_cron(window: Window, name: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """A cron opening in a gap is skipped, as cron skips it; a closing there closes when the gap ends."""
    back = LOOK_BACK if window.until else (window.duration or DAY) + DAY
    closings = _Closings(window.until, name)
    for wall in _walls(window, wall_of(start - back, name), wall_of(end, name)):
        opens = firing(wall, name)
        if opens is not None:
            yield opens, opens + window.duration if window.duration else closings.after(wall, opens)


class _Closings:
    """The first firing of an `until` after each opening; openings are asked for in order."""

    def __init__(self, until: str | None, zone_name: str) -> None:
        self._until, self._zone = until or "", zone_name
        self._walls: CronSim | None = None
        self._next = datetime.min  # noqa: DTZ901 (wall clock)

    def after(self, wall: datetime, opens: datetime) -> datetime:
        if self._walls is None:
            self._walls = CronSim(self._until, wall)
        while self._next <= wall or reached(self._next, self._zone) <= opens:
            self._next = next(self._walls)
        return reached(self._next, self._zone)


def _instants(pin: Pin, name: str, start: datetime, end: datetime) -> Iterator[datetime]:
    first, last = wall_of(start, name), wall_of(end, name)
    if pin.cron is not None:
        yield from (at for wall in _walls(pin, first, last) if (at := firing(wall, name)) is not None)
    else:
        minute = timedelta(minutes=minute_of(pin.at or ""))
        yield from (
            reached(datetime.combine(day, time()) + minute, name) for day in _dates(pin, first.date(), last.date())
        )
