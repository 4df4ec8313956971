"""Wall-clock times -> instants, where clocks jump: the one place that knows what a gap and a repeated hour mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)


@lru_cache(maxsize=65_536)
def firing(wall: datetime, zone_name: str) -> datetime | None:
    """The UTC instant at which this zone's clock first shows `wall` (naive); None if it never does.

    A repeated hour therefore fires once, on its first pass, and a time that the clock leaps over does not fire.
    """
    instant = wall.replace(tzinfo=ZoneInfo(zone_name), fold=0).astimezone(UTC)
    shown = instant.astimezone(ZoneInfo(zone_name)).replace(tzinfo=None)
    return instant if shown == wall else None


@lru_cache(maxsize=65_536)
def reached(wall: datetime, zone_name: str) -> datetime:
    """The first UTC instant at which this zone's clock shows `wall` or later: in a gap, the end of the gap."""
    exact = firing(wall, zone_name)
    if exact is not None:
        return exact
    local = ZoneInfo(zone_name)
    before = wall.replace(tzinfo=local, fold=1).astimezone(UTC)  # PEP 495: in a gap, fold=1 takes the later offset
    after = wall.replace(tzinfo=local, fold=0).astimezone(UTC)
    offset = after.astimezone(local).utcoffset()
    low, high = 0, int((after - before) / MINUTE)
    while low < high:
        middle = (low + high) // 2
        if (before + middle * MINUTE).astimezone(local).utcoffset() == offset:
            high = middle
        else:
            low = middle + 1
    return before + low * MINUTE


@lru_cache(maxsize=65_536)
def possible_firings(wall: datetime, zone_name: str) -> tuple[datetime, ...]:
    """Every instant at which some scheduler might fire for `wall`: one, except where the clock jumps.

    In a repeated hour both passes; in a gap its end, and `wall` by the offset before and after it.
    """
    local = ZoneInfo(zone_name)
    both = {wall.replace(tzinfo=local, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return tuple(sorted(both if len(both) == 1 else both | {reached(wall, zone_name)}))


def wall_of(instant: datetime, zone_name: str) -> datetime:
    """What this zone's clock shows at an instant, naive."""
    return instant.astimezone(ZoneInfo(zone_name)).replace(tzinfo=None)
