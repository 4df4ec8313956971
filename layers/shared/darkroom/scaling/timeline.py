"""A policy and an interval -> what limits hold when, and why. Pure; everything after it reads only this."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from darkroom.errors import InvalidPolicy
from darkroom.scaling.occurrences import Firing, Opening, firings, never_opens, openings, refuse_frequent
from darkroom.scaling.policy import Pin, ScalingPolicy, Window
from darkroom.scaling.wall_clock import firing, reached

LONGEST = timedelta(days=3 * 366)


@dataclass(frozen=True)
class Breakpoint:
    """From `at` (UTC) on, `min` to `max` replicas may run.

    `window` names the window that decides, or None (the policy itself, a pin, or `stop_at`); `why` is for people.
    `zone` is the zone whose clock brought the change about; `local` is that clock's time.
    """

    at: datetime
    min: int
    max: int
    window: str | None
    why: str
    zone: str

    @property
    def local(self) -> datetime:
        return self.at.astimezone(ZoneInfo(self.zone))

    @property
    def limits(self) -> tuple[int, int]:
        return self.min, self.max


@dataclass(frozen=True)
class Timeline:
    """Breakpoints in order; the first is at `start`. Limits hold from a breakpoint to the next, the last to `end`."""

    start: datetime
    end: datetime
    breakpoints: tuple[Breakpoint, ...]
    _instants: list[datetime] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_instants", [point.at for point in self.breakpoints])

    def at(self, instant: datetime) -> Breakpoint:
        """What holds at an instant of [start, end)."""
        if not self.start <= instant < self.end:
            raise ValueError("the instant lies outside the timeline")
        return self.breakpoints[bisect_right(self._instants, instant) - 1]

    def until_next(self, points: Sequence[Breakpoint]) -> Iterator[tuple[Breakpoint, datetime]]:
        """Each of these breakpoints with the instant of the next one; the last with `end`."""
        return zip(points, [*(point.at for point in points[1:]), self.end], strict=True)

    def changes(self) -> list[Breakpoint]:
        """The breakpoints at which min or max change; the first one is always there."""
        return _changes(self.breakpoints, lambda point: point.limits)


def timeline(policy: ScalingPolicy, start: datetime, end: datetime) -> Timeline:
    """What the policy allows in [start, end); both must know their zone, and are cut to the minute.

    Among open windows the greatest priority decides, then the one that stands first in the document. Beneath all
    windows the latest pin holds, beneath the pins the policy's own limits; `stop_at` ends everything.

    Raises: InvalidPolicy (a window opens too often to be followed), ValueError (an interval that is none, or too long).
    """
    start, end = (moment.astimezone(UTC).replace(second=0, microsecond=0) for moment in (start, end))
    if not timedelta() < end - start <= LONGEST:
        raise ValueError("a timeline runs from an earlier to a later minute, at most three years on")
    spans = sorted(openings(policy, start, end), key=lambda one: one.opens)
    pins = firings(policy, start, end)
    stop = reached(policy.stop_at, policy.timezone) if policy.stop_at else None
    instants = {start, *(one.opens for one in spans), *(one.closes for one in spans), *(one.at for one in pins)}
    if stop is not None:
        instants.add(stop)
    points: list[Breakpoint] = []
    active: list[Opening] = []
    next_span = next_pin = 0
    for at in sorted(instant for instant in instants if start <= instant < end):
        closed = [one for one in active if one.closes <= at]
        active = [one for one in active if one.closes > at]
        while next_span < len(spans) and spans[next_span].opens <= at:
            if spans[next_span].closes > at:
                active.append(spans[next_span])
            next_span += 1
        while next_pin < len(pins) and pins[next_pin].at <= at:
            next_pin += 1
        pin = pins[next_pin - 1] if next_pin else None
        points.append(_breakpoint(policy, at, active, closed, pin, stopped=stop is not None and at >= stop))
    return Timeline(start, end, tuple(_changes(points, lambda point: (point.limits, point.window, point.why))))


def _breakpoint(
    policy: ScalingPolicy,
    at: datetime,
    active: Sequence[Opening],
    closed: Sequence[Opening],
    pin: Firing | None,
    *,
    stopped: bool,
) -> Breakpoint:
    caused = closed[0].window if closed else None
    clock = policy.zone_of(caused) if caused else policy.timezone
    if stopped:
        return Breakpoint(at, 0, 0, None, f"stop_at {policy.stop_at:%Y-%m-%d %H:%M} has passed", policy.timezone)
    if active:
        ranked = sorted(active, key=lambda one: (-one.window.priority, one.index))
        best = ranked[0]
        if best.opens == at:
            clock = policy.zone_of(best.window)
        low, high = policy.limits_of(best.window)
        return Breakpoint(at, low, high, best.window.name, _why_window(policy, ranked), clock)
    if pin is not None:
        if pin.at == at:
            clock = policy.zone_of(pin.pin)
        low, high = policy.limits_of(pin.pin)
        return Breakpoint(at, low, high, None, f"pin {_when(policy, pin.pin)} holds until the next one", clock)
    return Breakpoint(at, policy.min, policy.max, None, "no window is open: the policy's own min and max", clock)


def _when(policy: ScalingPolicy, part: Window | Pin) -> str:
    if part.cron is not None:
        when = f"cron {part.cron}"
    else:
        when = f"{part.days or 'daily'} {part.hours if isinstance(part, Window) else part.at}"
    return f"{when} {policy.zone_of(part)}"


def _why_window(policy: ScalingPolicy, ranked: Sequence[Opening]) -> str:
    best = ranked[0].window
    others = {one.index: one.window for one in ranked if one.window is not best}.values()
    why = f"window {best.name} is open ({_when(policy, best)})"
    beaten = [
        f"{other.name} (priority {other.priority})"
        if other.priority < best.priority
        else f"{other.name} (listed later)"
        for other in others
    ]
    return f"{why}; priority {best.priority} outranks {', '.join(beaten)}" if beaten else why


def _changes(points: Sequence[Breakpoint], key: Callable[[Breakpoint], object]) -> list[Breakpoint]:
    """The points at which `key` is another than just before; the first one is."""
    return [next(same) for _, same in groupby(points, key)]


def refuse_impossible(policy: ScalingPolicy) -> None:
    """Refuse what only the calendar can show: a window whose dates never let it open, a stop in a skipped hour, and
    windows that open more often than can be followed.

    Raises: InvalidPolicy.
    """
    refuse_frequent(policy)
    for index, window in enumerate(policy.windows):
        if never_opens(window, policy.zone_of(window)):
            raise InvalidPolicy("Between its dates this window never opens.", field=f"/windows/{index}/to")
    if policy.stop_at is not None and firing(policy.stop_at, policy.timezone) is None:
        raise InvalidPolicy("The clock skips this time; choose another.", field="/stop_at")
