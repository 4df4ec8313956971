"""A timeline -> KEDA cron triggers: weekly ones where the calendar repeats, dated ones where it does not.

A KEDA cron trigger is active while its next `end` comes before its next `start`; it knows no year and no exceptions.
So each trigger here only *marks* a span of time, and the first active one of the list decides: dated ones stand before
weekly ones and say what holds where a weekly one is wrong, a holiday or an hour that the clock skips or repeats.
A day and a month come again after a year, so the marks are right for a horizon of less than that; render again then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

from cronsim import CronSim

from darkroom.scaling.fields import DAYS
from darkroom.scaling.timeline import Timeline
from darkroom.scaling.wall_clock import possible_firings, wall_of

HORIZON = timedelta(days=364)
DAY = timedelta(days=1)
Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Mark:
    """A cron trigger that marks a span, and the limits that hold while it is the first active one."""

    start: str
    end: str
    zone: str
    min: int
    max: int


@dataclass(frozen=True)
class _Key:
    zone: str
    opens: tuple[int, int]  # hour, minute
    closes: tuple[int, int]
    days: int  # midnights between opening and closing
    min: int
    max: int


def marks(line: Timeline) -> list[Mark]:
    """Marks that together, over the base limits of `base`, give the timeline; first match decides."""
    weekly = _weekly(line)
    wrong = _wrong(line, weekly)
    return [_dated(begin, end, *line.at(begin).limits) for begin, end in wrong] + weekly


def base(line: Timeline) -> tuple[int, int]:
    """The limits that hold longest: what needs no mark."""
    held: dict[tuple[int, int], timedelta] = defaultdict(timedelta)
    for point, end in line.until_next(line.changes()):
        held[point.limits] += end - point.at
    return max(held, key=lambda limits: (held[limits], limits))


def _weekly(line: Timeline) -> list[Mark]:
    usual = base(line)
    changes = line.changes()
    weekdays_of: dict[_Key, set[int]] = defaultdict(set)
    times: dict[tuple[_Key, int], int] = defaultdict(int)
    for point, after in pairwise(changes[1:]):  # whole spans only
        opens, closes = wall_of(point.at, point.zone), wall_of(after.at, point.zone)
        days = (closes.date() - opens.date()).days
        if point.limits == usual or days > 6:
            continue
        key = _Key(point.zone, (opens.hour, opens.minute), (closes.hour, closes.minute), days, *point.limits)
        weekdays_of[key].add(opens.weekday())
        times[key, opens.weekday()] += 1
    weeks = max((line.end - line.start) / (7 * DAY), 1.0)
    chosen: list[Mark] = []
    for key, weekdays in weekdays_of.items():
        # A weekday joins where it recurs in most weeks; what is left is cheaper to date one by one.
        often = {day for day in weekdays if times[key, day] >= 2 and times[key, day] > weeks / 2}
        if often:
            chosen.append(_recurring(key, often))
    return sorted(chosen, key=lambda mark: (mark.zone, mark.start, mark.end))


def _recurring(key: _Key, weekdays: set[int]) -> Mark:
    return Mark(
        f"{key.opens[1]} {key.opens[0]} * * {_days(weekdays)}",
        f"{key.closes[1]} {key.closes[0]} * * {_days({(day + key.days) % 7 for day in weekdays})}",
        key.zone,
        key.min,
        key.max,
    )


def _days(weekdays: set[int]) -> str:
    return "*" if len(weekdays) == 7 else ",".join(DAYS[day].upper() for day in sorted(weekdays))


def _dated(begin: datetime, end: datetime, low: int, high: int) -> Mark:
    first, last = begin.astimezone(UTC), end.astimezone(UTC)
    start = f"{first.minute} {first.hour} {first.day} {first.month} *"
    return Mark(start, f"{last.minute} {last.hour} {last.day} {last.month} *", "UTC", low, high)


@cache
def _firings(expression: str, zone: str, start: datetime, end: datetime) -> tuple[tuple[datetime, ...], ...]:
    walls: list[datetime] = []
    for wall in CronSim(expression, wall_of(start, zone) - timedelta(minutes=1)):
        if wall > wall_of(end, zone):
            break
        walls.append(wall)
    return tuple(possible_firings(wall, zone) for wall in walls)


def active(mark: Mark, start: datetime, end: datetime, *, ambiguity: int = 0) -> list[Span]:
    """When KEDA takes a mark for active within [start, end): from the event before each `end` on, up to it.

    `ambiguity` chooses what its cron does for a time that the clock skips or repeats: 0 never fires, 1 the first
    possible instant, 2 the last, 3 all of them.
    """

    def chosen(expression: str) -> set[datetime]:
        instants: set[datetime] = set()
        for possible in _firings(expression, mark.zone, start - 9 * DAY, end + 9 * DAY):
            if len(possible) == 1 or ambiguity == 3:
                instants.update(possible)
            elif ambiguity:
                instants.add(possible[0] if ambiguity == 1 else possible[-1])
        return instants

    starts, ends = chosen(mark.start), chosen(mark.end)
    events = sorted(starts | ends)
    spans: list[Span] = []
    for before, event in zip([start - 10 * DAY, *events], events, strict=False):
        # A tie of the next start and the next end counts as inside.
        if event in ends and max(before, start) < min(event, end):
            spans.append((max(before, start), min(event, end)))
    return spans


def _wrong(line: Timeline, weekly: Sequence[Mark]) -> list[Span]:
    """Where the weekly marks alone would not give the timeline, whatever cron does at a jump of the clock."""
    usual = base(line)
    wrong: list[Span] = []
    for ambiguity in range(4):
        spans = [(mark, span) for mark in weekly for span in active(mark, line.start, line.end, ambiguity=ambiguity)]
        edges = {line.start, *(point.at for point in line.changes()), *(at for _, span in spans for at in span)}
        ordered = sorted(edge for edge in edges if line.start <= edge < line.end)
        by_start = sorted(spans, key=lambda one: one[1][0])
        open_now: list[tuple[Mark, Span]] = []
        next_span = 0
        for begin, end in zip(ordered, [*ordered[1:], line.end], strict=True):
            open_now = [one for one in open_now if one[1][1] > begin]
            while next_span < len(by_start) and by_start[next_span][1][0] <= begin:
                open_now.append(by_start[next_span])
                next_span += 1
            marked = {(mark.min, mark.max) for mark, _ in open_now} or {usual}
            if marked != {line.at(begin).limits}:
                wrong.append((begin, end))
    return _by_limits(line, wrong)


def _by_limits(line: Timeline, spans: Iterable[Span]) -> list[Span]:
    """Overlapping and touching spans joined, then cut where the timeline's limits change."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    cuts = [point.at for point in line.changes()]
    pieces: list[Span] = []
    for begin, end in merged:
        edges = [begin, *(cut for cut in cuts if begin < cut < end), end]
        pieces += pairwise(edges)
    return pieces
