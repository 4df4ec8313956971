"""Traces: how many requests arrived in which minute. Read from CSV, spread into arrivals, and generated from a seed."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
SHIPPED = Path(__file__).parent / "traces"
WEEK_START = datetime(2026, 11, 15, 16, tzinfo=UTC)  # a Monday, midnight in Shanghai
OFFICE_ZONE = ZoneInfo("Asia/Shanghai")


class TraceError(Exception):
    """One sentence for the person who gave the trace."""


@dataclass(frozen=True)
class Trace:
    """Requests by minute, UTC; minutes without requests are left out. `end` is the minute after the last covered."""

    start: datetime
    end: datetime
    counts: dict[datetime, int]

    def between(self, start: datetime, end: datetime) -> Trace:
        """The part of [start, end)."""
        return Trace(start, end, {at: count for at, count in self.counts.items() if start <= at < end})

    def arrivals(self, seed: int = 0) -> list[float]:
        """Seconds after `start` at which requests arrive: uniformly within each minute, in order."""
        draw = random.Random(seed)  # noqa: S311 (a simulation)
        seconds: list[float] = []
        for at in sorted(self.counts):
            offset = (at - self.start).total_seconds()
            seconds += sorted(offset + 60.0 * draw.random() for _ in range(self.counts[at]))
        return seconds


def shipped() -> list[str]:
    """Names of the traces that come with Darkroom."""
    return sorted(path.stem for path in SHIPPED.glob("*.csv"))


def read_trace(name_or_path: str) -> Trace:
    """A shipped trace by its name, or a CSV file of the columns `minute` (ISO 8601, UTC) and `requests`.

    Raises: TraceError.
    """
    path = SHIPPED / f"{name_or_path}.csv" if name_or_path in shipped() else Path(name_or_path)
    counts: dict[datetime, int] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    at, count = datetime.fromisoformat(row["minute"]), int(row["requests"])
                except (KeyError, TypeError, ValueError):
                    raise TraceError(
                        f"{path.name}, line {number}: give `minute` (such as 2026-11-16T01:00Z) and `requests`."
                    ) from None
                at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).replace(second=0, microsecond=0)
                if count < 0:
                    raise TraceError(f"{path.name}, line {number}: requests cannot be negative.")
                counts[at] = counts.get(at, 0) + count
    except (OSError, UnicodeDecodeError):
        known = ", ".join(shipped())
        raise TraceError(f"{path.name} cannot be read; give a CSV file or one of {known}.") from None
    if not counts:
        raise TraceError(f"{path.name} has no arrivals.")
    return Trace(min(counts), max(counts) + MINUTE, counts)


def write_trace(trace: Trace, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["minute", "requests"])
        edges = {trace.start, trace.end - MINUTE}  # written even where empty: they say what the trace covers
        for at in sorted({*trace.counts, *edges}):
            writer.writerow([f"{at:%Y-%m-%dT%H:%MZ}", trace.counts.get(at, 0)])


def office_hours(draw: random.Random) -> Trace:
    """Seven days: colleagues from nine to six on weekdays, a dip at lunch, a few requests on the evenings."""

    def rate(at: datetime) -> float:
        local = at.astimezone(OFFICE_ZONE)
        hour = local.hour + local.minute / 60
        if local.weekday() >= 5 or not 8 <= hour < 21:
            return 0.0
        ramp = min(1.0, max(0.0, (hour - 8.75) / 0.75)) * min(1.0, max(0.0, (18.25 - hour) / 0.75))
        lunch = 0.55 * math.exp(-(((hour - 12.6) / 0.5) ** 2))
        return 30.0 * ramp * (1 - lunch) + 0.15

    return _generated(draw, 7, rate)


def bursty(draw: random.Random) -> Trace:
    """Two days of a steady trickle on which bursts of some minutes fall, about one every two hours."""
    bursts: list[tuple[float, float, float]] = []
    at = 0.0
    while at < 2 * 1440:
        at += draw.expovariate(1 / 120)
        bursts.append((at, draw.uniform(5, 25), draw.uniform(12, 36)))

    def rate(moment: datetime) -> float:
        minute = (moment - WEEK_START) / MINUTE
        return 2.0 + sum(height for begin, length, height in bursts if begin <= minute < begin + length)

    return _generated(draw, 2, rate)


def quiet_with_spikes(draw: random.Random) -> Trace:
    """Seven days with next to nothing, and a few short spikes at any hour."""
    spikes = [(draw.uniform(0, 7 * 1440), draw.uniform(3, 12), draw.uniform(10, 30)) for _ in range(9)]

    def rate(moment: datetime) -> float:
        minute = (moment - WEEK_START) / MINUTE
        return 0.02 + sum(height for begin, length, height in spikes if begin <= minute < begin + length)

    return _generated(draw, 7, rate)


GENERATORS: dict[str, Callable[[random.Random], Trace]] = {
    "office-hours": office_hours,
    "bursty": bursty,
    "quiet-with-spikes": quiet_with_spikes,
}


def generate(name: str, seed: int = 2026) -> Trace:
    """One of the shipped traces, made again: the same seed gives the same file."""
    return GENERATORS[name](random.Random(f"{name}-{seed}"))  # noqa: S311


def _generated(draw: random.Random, days: int, rate: Callable[[datetime], float]) -> Trace:
    minutes: Iterable[datetime] = (WEEK_START + n * MINUTE for n in range(days * 1440))
    counts = {at: count for at in minutes if (count := _poisson(draw, rate(at)))}
    return Trace(WEEK_START, WEEK_START + timedelta(days=days), counts)


def _poisson(draw: random.Random, mean: float) -> int:
    """Arrivals of one minute: exponential gaps until the minute is full."""
    count, passed = 0, draw.expovariate(1.0)
    while passed < mean:
        count += 1
        passed += draw.expovariate(1.0)
    return count


if __name__ == "__main__":
    SHIPPED.mkdir(exist_ok=True)
    for trace_name in GENERATORS:
        write_trace(generate(trace_name), SHIPPED / f"{trace_name}.csv")
