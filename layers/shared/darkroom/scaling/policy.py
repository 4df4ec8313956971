"""ScalingPolicy: the one short document a person writes. `{"min": 0, "max": 2}` is complete."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from darkroom.scaling.fields import Cron, Date, Days, Duration, Hours, LocalMinute, TimeOfDay, Zone

MAX_REPLICAS = 1000
MAX_WINDOWS = 50
MetricName = Literal["gpu", "cpu", "memory", "requests_per_second", "queue_depth", "latency"]
METRIC_NAMES: tuple[MetricName, ...] = ("gpu", "cpu", "memory", "requests_per_second", "queue_depth", "latency")
Replicas = Annotated[int, Field(ge=0, le=MAX_REPLICAS)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


class Part(BaseModel):
    """Strict, frozen, and unknown fields refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)


def _refuse(field: str, message: str) -> PydanticCustomError:
    """A finding about one member of the part it is raised in; `field` may be a path such as `windows/0/min`."""
    return PydanticCustomError("invalid_policy", "{message}", {"message": message, "field": field})


class _Recurring(Part):
    """When something recurs: at times of `days`, or as a cron expression says; between two dates; except on some."""

    cron: Cron | None = None
    days: Days | None = None
    timezone: Zone | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    first_day: Annotated[Date | None, Field(alias="from")] = None
    last_day: Annotated[Date | None, Field(alias="to")] = None
    exceptions: Annotated[tuple[Date, ...], Field(max_length=366)] = ()

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise _refuse("to", "the last day is before the first")
        return self


class Window(_Recurring):
    """A time during which other limits hold: `days` and `hours`, or `cron` with `until` (a cron) or `duration`.

    `min` and `max` default to the policy's. Dates are those of the opening, in the window's zone, both ends included.
    """

    name: Name
    hours: Hours | None = None
    until: Cron | None = None
    duration: Duration | None = None
    min: Replicas | None = None
    max: Replicas | None = None

    @model_validator(mode="after")
    def _one_way_to_say_when(self) -> Self:
        if (self.hours is None) == (self.cron is None):
            raise _refuse("hours", "give either hours (with days) or cron (with until or duration)")
        if self.hours is not None and (self.until is not None or self.duration is not None):
            raise _refuse("hours", "hours already say when the window closes; leave out until and duration")
        if self.cron is not None:
            if (self.until is None) == (self.duration is None):
                raise _refuse("cron", "say when the window closes with either until or duration")
            if self.days is not None:
                raise _refuse("days", "the cron expression already names the days")
            if self.until is not None and self.until.split() == self.cron.split():
                raise _refuse("until", "the window has no length: it opens and closes at the same time")
        if self.duration is not None and not timedelta(minutes=1) <= self.duration <= timedelta(days=7):
            raise _refuse("duration", "a window lasts at least one minute and at most seven days")
        if self.duration is not None and self.duration % timedelta(minutes=1):
            raise _refuse("duration", "windows are kept to the minute; give whole minutes")
        if self.min is None and self.max is None:
            raise _refuse("min", "the window changes nothing: give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise _refuse("min", "min is greater than max")
        return self


class Pin(_Recurring):
    """New limits from a time on, until the next pin: `at` a time of `days`, or as `cron` says.

    `replicas` fixes the number; `min` and `max` move only that limit and leave the rest to the metrics.
    """

    at: TimeOfDay | None = None
    replicas: Replicas | None = None
    min: Replicas | None = None
    max: Replicas | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.at is None) == (self.cron is None):
            raise _refuse("at", "give either at (with days) or cron")
        if self.cron is not None and self.days is not None:
            raise _refuse("days", "the cron expression already names the days")
        if self.priority:
            raise _refuse("priority", "a pin has no priority: the latest one holds, beneath every window")
        if (self.replicas is None) == (self.min is None and self.max is None):
            raise _refuse("replicas", "give either replicas or min and max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise _refuse("min", "min is greater than max")
        return self


def _written_short(value: object) -> object:
    """`gpu: 50` stands for `gpu: {target: 50}`."""
    return {"target": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Metric(Part):
    """What to keep near `target`. More replicas after `scale_out_cooldown`, fewer after `scale_in_cooldown`."""

    target: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    statistic: Literal["average", "maximum", "p50", "p90", "p95", "p99"] = "average"
    scale_out_cooldown: Duration = timedelta(minutes=1)
    scale_in_cooldown: Duration = timedelta(minutes=5)

    @model_validator(mode="after")
    def _cooldowns_within_an_hour(self) -> Self:
        for field in ("scale_out_cooldown", "scale_in_cooldown"):
            if getattr(self, field) > timedelta(hours=1):
                raise _refuse(field, "a cooldown is at most one hour")
        return self

    def of(self, values: Iterable[float]) -> float | None:
        """The statistic of these values; None where there are none."""
        ascending = sorted(values)
        if not ascending:
            return None
        if self.statistic == "average":
            return sum(ascending) / len(ascending)
        return percentile(ascending, 1.0 if self.statistic == "maximum" else int(self.statistic[1:]) / 100)


def percentile(ascending: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    return ascending[max(math.ceil(share * len(ascending)), 1) - 1] if ascending else 0.0


Written = Annotated[Metric | None, BeforeValidator(_written_short)]


class Metrics(Part):
    """Each is kept near its target; the one that asks for most replicas wins.

    `gpu`, `cpu`, `memory`: percent of a replica. `requests_per_second`: per replica. `queue_depth`: requests accepted
    and not finished, per replica. `latency`: seconds from acceptance to the answer.
    """

    gpu: Written = None
    cpu: Written = None
    memory: Written = None
    requests_per_second: Written = None
    queue_depth: Written = None
    latency: Written = None

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for name, metric in self.chosen():
            if name in ("gpu", "cpu", "memory") and metric.target > 100:
                raise _refuse(f"{name}/target", "a percentage is at most 100")
            if name in ("gpu", "cpu", "memory") and metric.statistic not in ("average", "maximum"):
                raise _refuse(f"{name}/statistic", "over replicas, take the average or the maximum")
            if name in ("requests_per_second", "queue_depth") and metric.statistic != "average":
                raise _refuse(f"{name}/statistic", "this is counted per replica: take the average")
        return self

    def chosen(self) -> list[tuple[MetricName, Metric]]:
        """The metrics that were asked for, in a fixed order."""
        return [(name, metric) for name in METRIC_NAMES if (metric := getattr(self, name)) is not None]


class ScalingPolicy(Part):
    """How many replicas may run, when, and what they follow.

    Without metrics the number follows `queue_depth` with target 4. `scale_to_zero_after` counts from the last work and
    applies where the minimum in force is 0. From `stop_at` on nothing runs, until the policy is replaced.
    """

    min: Replicas
    max: Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
    timezone: Zone = "UTC"
    windows: Annotated[tuple[Window, ...], Field(max_length=MAX_WINDOWS)] = ()
    schedule: Annotated[tuple[Pin, ...], Field(max_length=MAX_WINDOWS)] = ()
    metrics: Metrics = Metrics(queue_depth=Metric(target=4.0))
    scale_to_zero_after: Duration = timedelta(minutes=10)
    stop_at: LocalMinute | None = None

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        if self.min > self.max:
            raise _refuse("min", "min is greater than max")
        if self.scale_to_zero_after < timedelta(seconds=10):
            raise _refuse("scale_to_zero_after", "wait at least ten seconds before zero")
        names = [window.name for window in self.windows]
        for index, window in enumerate(self.windows):
            if window.name in names[:index]:
                raise _refuse(f"windows/{index}/name", "another window has this name")
            low, high = self.limits_of(window)
            if low > high:
                field = "min" if window.min is not None else "max"
                raise _refuse(f"windows/{index}/{field}", "min is greater than max while this window is open")
        for index, pin in enumerate(self.schedule):
            low, high = self.limits_of(pin)
            if low > high:
                field = "min" if pin.min is not None else "max"
                raise _refuse(f"schedule/{index}/{field}", "min is greater than max once this pin holds")
        if not self.metrics.chosen():
            raise _refuse("metrics", "name at least one metric, or leave metrics out")
        return self

    def limits_of(self, part: Window | Pin) -> tuple[int, int]:
        """`min` and `max` while a window is open or a pin holds."""
        if isinstance(part, Pin) and part.replicas is not None:
            return part.replicas, part.replicas
        return (self.min if part.min is None else part.min), (self.max if part.max is None else part.max)

    def zone_of(self, part: Window | Pin) -> str:
        """The zone whose clock a window or pin follows."""
        return part.timezone or self.timezone
