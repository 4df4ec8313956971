"""A timeline's changes -> as few actions as possible: weekly ones where the calendar repeats, single ones elsewhere.

An action sets both limits at an instant, and nothing reverts it; so an action may only ever fire where the timeline has
those very limits. Schedulers differ at the hours that clocks skip or repeat, so a weekly action is allowed across such
a date only if it would be right at *every* instant it could fire, and a change inside such an hour is always a single
action in UTC. What comes out is therefore correct whatever the scheduler does there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from darkroom.scaling.timeline import Timeline
from darkroom.scaling.wall_clock import MINUTE, possible_firings, wall_of

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Once:
    """Set both limits at one instant, UTC."""

    at: datetime
    min: int
    max: int


@dataclass(frozen=True)
class Weekly:
    """Set both limits at `minute` past each of `hours` on `weekdays` (Monday 0), by `zone`'s clock.

    `starts` is the first firing, `ends` lies just after the last one (UTC); None where nothing bounds it.
    """

    zone: str
    minute: int
    hours: tuple[int, ...]
    weekdays: tuple[int, ...]
    min: int
    max: int
    starts: datetime | None
    ends: datetime | None


@dataclass(frozen=True)
class _Key:
    zone: str
    minute: int  # of the day
    min: int
    max: int


@dataclass(frozen=True)
class _Run:
    """Dates of some weekdays between two bounds: it must fire on `musts` and may fire on any date within the bounds."""

    weekdays: frozenset[int]
    musts: tuple[date, ...]
    after: date | None  # last date before the run on which it must not fire
    before: date | None  # first date after the run on which it must not fire

    def joined(self, other: _Run) -> _Run | None:
        after = max((d for d in (self.after, other.after) if d), default=None)
        before = min((d for d in (self.before, other.before) if d), default=None)
        musts = tuple(sorted({*self.musts, *other.musts}))
        if (after and after >= musts[0]) or (before and before <= musts[-1]):
            return None
        return _Run(self.weekdays | other.weekdays, musts, after, before)


def actions(line: Timeline) -> list[Weekly | Once]:
    """What must be scheduled after the timeline's start so that its limits come about; a stable order."""
    singles: list[Once] = []
    dates: dict[_Key, list[date]] = defaultdict(list)
    for point in line.changes()[1:]:
        wall = wall_of(point.at, point.zone)
        if len(possible_firings(wall, point.zone)) > 1:
            singles.append(Once(point.at, point.min, point.max))
        else:
            key = _Key(point.zone, 60 * wall.hour + wall.minute, point.min, point.max)
            dates[key].append(wall.date())
    weekly: list[Weekly] = []
    for key, musts in dates.items():
        for run in _joined(_runs(line, key, musts)):
            if len(run.musts) == 1:
                singles.append(Once(_instant(key, run.musts[0]), key.min, key.max))
            else:
                weekly.append(_weekly(key, run))
    return [*_hours_together(weekly), *sorted(singles, key=lambda one: one.at)]


def _instant(key: _Key, day: date) -> datetime:
    return possible_firings(datetime(day.year, day.month, day.day) + key.minute * MINUTE, key.zone)[0]  # noqa: DTZ001


def _harmless(line: Timeline, key: _Key, day: date) -> bool:
    wall = datetime(day.year, day.month, day.day) + key.minute * MINUTE  # noqa: DTZ001 (wall clock)
    return all(
        line.at(instant).limits == (key.min, key.max)
        for instant in possible_firings(wall, key.zone)
        if line.start <= instant < line.end
    )


def _runs(line: Timeline, key: _Key, musts: Iterable[date]) -> list[_Run]:
    """For each weekday, its dates between two on which the action would be wrong."""
    runs: list[_Run] = []
    last = wall_of(line.end, key.zone).date()
    by_weekday: dict[int, set[date]] = defaultdict(set)
    for day in musts:
        by_weekday[day.weekday()].add(day)
    for weekday, wanted in sorted(by_weekday.items()):
        day = wall_of(line.start, key.zone).date()
        day += ((weekday - day.weekday()) % 7) * DAY
        after: date | None = None
        days: list[date] = []
        while day <= last:
            if day in wanted:
                days.append(day)
            elif not _harmless(line, key, day):
                if days:
                    runs.append(_Run(frozenset({weekday}), tuple(days), after, day))
                after, days = day, []
            day += 7 * DAY
        if days:
            runs.append(_Run(frozenset({weekday}), tuple(days), after, None))
    return runs


def _joined(runs: Iterable[_Run]) -> list[_Run]:
    groups: list[_Run] = []
    for run in sorted(runs, key=lambda one: (one.musts[0], -len(one.musts))):
        for index, group in enumerate(groups):
            both = group.joined(run) if run.weekdays.isdisjoint(group.weekdays) else None
            if both is not None:
                groups[index] = both
                break
        else:
            groups.append(run)
    return groups


def _weekly(key: _Key, run: _Run) -> Weekly:
    hour, minute = divmod(key.minute, 60)
    starts = _instant(key, run.musts[0]) if run.after else None
    ends = _instant(key, run.musts[-1]) + MINUTE if run.before else None
    return Weekly(key.zone, minute, (hour,), tuple(sorted(run.weekdays)), key.min, key.max, starts, ends)


def _hours_together(weekly: Iterable[Weekly]) -> list[Weekly]:
    """Unbounded actions that differ only in the hour become one."""
    together: dict[Weekly, list[int]] = defaultdict(list)
    for one in weekly:
        together[replace(one, hours=()) if not (one.starts or one.ends) else one] += one.hours
    merged = [replace(one, hours=tuple(sorted(set(hours)))) for one, hours in together.items()]
    epoch = datetime.min.replace(tzinfo=UTC)
    return sorted(merged, key=lambda one: (one.zone, one.hours, one.minute, one.weekdays, one.starts or epoch, one.min))
