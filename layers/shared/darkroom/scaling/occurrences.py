"""When the windows of a policy are open and its pins fire, in UTC. Cron is read by cronsim, on the wall clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import islice

from cronsim import CronSim

from darkroom.errors import InvalidPolicy
from darkroom.scaling.fields import minute_of, minutes_of, weekdays_of
from darkroom.scaling.policy import Pin, ScalingPolicy, Window
from darkroom.scaling.wall_clock import MINUTE, firing, reached, wall_of

DAY = timedelta(days=1)
MOST_A_DAY = 1440  # one opens every minute, or several less often: each occurrence costs some microseconds
MOST_OCCURRENCES = 50_000
# How far back an opening or a pin that still holds is looked for; a yearly cron is found.
LOOK_BACK = timedelta(days=367)


@dataclass(frozen=True)
class Opening:
    """Some time that a window is open without a break: from `opens` (included) to `closes` (excluded), UTC."""

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
    left = MOST_OCCURRENCES
    for index, window in enumerate(policy.windows):
        every = _by_cron if window.cron else _by_hours
        spans = list(islice(every(window, policy.zone_of(window), start, end), left + 1))
        left -= len(spans)
        if left < 0:
            raise InvalidPolicy(
                "The windows open too often for so long a time; use hours instead.", field=f"/windows/{index}"
            )
        within = (span for span in spans if span[0] < span[1] and span[0] < end and span[1] > start)
        openings += (Opening(index, window, *span) for span in _united(within))
    return openings


def _united(spans: Iterable[tuple[datetime, datetime]]) -> Iterator[tuple[datetime, datetime]]:
    """The same time, without overlaps: a window that opens again before it has closed just stays open."""
    last: tuple[datetime, datetime] | None = None
    for opens, closes in sorted(spans):
        if last is not None and opens <= last[1]:
            last = (last[0], max(last[1], closes))
            continue
        if last is not None:
            yield last
        last = (opens, closes)
    if last is not None:
        yield last


def firings(policy: ScalingPolicy, start: datetime, end: datetime) -> list[Firing]:
    """The pins' firings before `end` by time, from the last one before `start` on (it still holds there).

    Raises: InvalidPolicy where there are absurdly many.
    """
    firings: list[Firing] = []
    left = MOST_OCCURRENCES
    for index, pin in enumerate(policy.schedule):
        name = policy.zone_of(pin)
        instants = list(islice(_instants(pin, name, start, end), left + 1))
        left -= len(instants)
        if left < 0:
            raise InvalidPolicy("The pins fire too often for so long a time.", field=f"/schedule/{index}")
        firings += (Firing(index, pin, at) for at in instants if at < end)
    firings.sort(key=lambda one: (one.at, one.index))
    earlier = [one for one in firings if one.at <= start]
    return earlier[-1:] + [one for one in firings if one.at > start]


def refuse_frequent(policy: ScalingPolicy) -> None:
    """Raises: InvalidPolicy, naming what begins most often, where all together begin too often on a day."""
    daily = {f"/windows/{index}": _times_a_day(window) for index, window in enumerate(policy.windows)}
    daily |= {f"/schedule/{index}": _times_a_day(pin) for index, pin in enumerate(policy.schedule)}
    if sum(daily.values()) > MOST_A_DAY:
        raise InvalidPolicy(
            f"Windows and pins together may begin at most {MOST_A_DAY} times a day.",
            field=max(daily, key=daily.__getitem__),
        )


def _times_a_day(part: Window | Pin) -> int:
    if part.cron is None:
        return 1
    fields = CronSim(part.cron, datetime(2026, 1, 1))  # noqa: DTZ001 (any day)
    return len(fields.minutes) * len(fields.hours)


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


def _walls(part: Window | Pin, first: datetime, last: datetime, *, back: bool = False) -> Iterator[datetime]:
    """The wall-clock times from first to last at which a part's cron fires, whether the clock shows them or not.

    `back`: from last to first.
    """
    assert part.cron is not None  # noqa: S101 (the policy allows no part without hours, at or cron)
    for wall in CronSim(part.cron, last + MINUTE if back else first - MINUTE, reverse=back):
        if not first <= wall <= last:
            return
        if (part.first_day or date.min) <= wall.date() <= (
            part.last_day or date.max
        ) and wall.date() not in part.exceptions:
            yield wall


def _by_hours(window: Window, name: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Hours name the clock: what falls into a gap begins, or ends, when the gap does."""
    opening, closing = (timedelta(minutes=minutes) for minutes in minutes_of(window.hours or ""))
    for day in _dates(window, wall_of(start, name).date() - 2 * DAY, wall_of(end, name).date()):
        midnight = datetime.combine(day, time())
        yield reached(midnight + opening, name), reached(midnight + closing, name)


def _by_cron(window: Window, name: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """A cron opening in a gap is skipped, as cron skips it; a closing there closes when the gap ends."""
    first = wall_of(start, name)
    if window.duration:
        first -= window.duration + DAY
    else:  # what opened before it last closed is no longer open
        first = max(next(CronSim(window.until or "", first, reverse=True)), first - LOOK_BACK) - DAY
    closings = _Closings(window.until, name)
    for wall in _walls(window, first, wall_of(end, name)):
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
    """When a pin fires from `start` to `end`, and before that the last time it did."""
    first, last = wall_of(start, name), wall_of(end, name)
    if pin.cron is None:
        minute = timedelta(minutes=minute_of(pin.at or ""))
        days = _dates(pin, first.date() - LOOK_BACK, last.date())
        yield from (reached(datetime.combine(day, time()) + minute, name) for day in days)
        return
    instants = (at for wall in _walls(pin, first - LOOK_BACK, first, back=True) if (at := firing(wall, name)))
    yield from islice((at for at in instants if at <= start), 1)
    yield from (at for wall in _walls(pin, first, last) if (at := firing(wall, name)))
