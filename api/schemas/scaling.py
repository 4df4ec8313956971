"""Scaling policies: what will hold when, what it would cost, and who changed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import Field

from api.schemas import Document
from darkroom.errors import InvalidParameter, PolicyNotFound
from darkroom.scaling.prices import PriceError, read_prices
from darkroom.scaling.storage import Change, StoredPolicy
from darkroom.scaling.timeline import Timeline, timeline

_LONGEST, _USUAL = timedelta(days=92), timedelta(days=7)
_MOST_BREAKPOINTS = 2000  # what fits an answer; a policy that changes each minute has more


class ScalingBreakpoint(Document):
    """From `at` on these limits hold."""

    at: datetime
    local: Annotated[datetime, Field(description="the same instant on the clock that brought the change about")]
    min: int
    max: int
    window: Annotated[str | None, Field(description="the window that decides; absent: none")] = None
    why: str


class Span(Document):
    """Always `min` replicas, and always `max`: what is used lies between."""

    least: float
    most: float


class ScalingEstimate(Document):
    """What the limits alone say; `python -m local plan` simulates what a given load would use."""

    replica_hours: Span
    cost: Span
    currency: str
    instance: str
    per_hour: float
    prices_as_of: str


class ScalingPlan(Document):
    """What will hold when, and why."""

    model: str
    version: Annotated[int, Field(description="the policy's version; its ETag is this number in quotes")]
    start: Annotated[datetime, Field(serialization_alias="from", validation_alias="from")]
    end: Annotated[datetime, Field(serialization_alias="to", validation_alias="to")]
    breakpoints: list[ScalingBreakpoint]
    left_off: Annotated[int, Field(description="breakpoints beyond the last one shown")] = 0
    estimate: ScalingEstimate


class ScalingChange(Document):
    """Who made a version out of which document. A member that is absent: there was no policy."""

    version: int
    at: datetime
    by: str
    old: dict[str, Any] | None = None
    new: dict[str, Any] | None = None


class ScalingChanges(Document):
    changes: Annotated[list[ScalingChange], Field(description="oldest first")]


def changes_document(history: Sequence[Change]) -> ScalingChanges:
    return ScalingChanges(
        changes=[
            ScalingChange(
                version=one.version, at=datetime.fromtimestamp(one.at, UTC), by=one.by, old=one.old, new=one.new
            )
            for one in history
        ]
    )


def plan_document(stored: StoredPolicy, query: Mapping[str, str], now: datetime) -> ScalingPlan:
    """What the stored policy will do from `from` (default `now`) to `to` (default a week on), at `instance`'s price.

    Times without an offset are in the policy's own zone. Raises: InvalidParameter, PolicyNotFound.
    """
    policy = stored.policy
    if policy is None:
        raise PolicyNotFound
    try:
        start = _moment("from", query.get("from"), policy.timezone) or now
        end = _moment("to", query.get("to"), policy.timezone) or start + _USUAL
        if end - start > _LONGEST:
            raise InvalidParameter(f"A plan covers at most {_LONGEST.days} days.", field="/to")
        line = timeline(policy, start, end)
    except (ValueError, OverflowError):
        raise InvalidParameter("`to` must be at least a minute later than `from`.", field="/to") from None
    shown = [
        ScalingBreakpoint.model_validate(point, from_attributes=True) for point in line.breakpoints[:_MOST_BREAKPOINTS]
    ]
    return ScalingPlan.model_validate(
        {
            "model": stored.model,
            "version": stored.version,
            "from": line.start,
            "to": line.end,
            "breakpoints": shown,
            "left_off": len(line.breakpoints) - len(shown),
            "estimate": _estimate(line, query.get("instance")),
        }
    )


def _moment(name: str, text: str | None, timezone: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidParameter(
            f"`{name}` is a time such as 2026-11-16T09:00, or 2026-11-16T01:00Z.", field=f"/{name}"
        ) from None


def _estimate(line: Timeline, instance: str | None) -> ScalingEstimate:
    table = read_prices()
    try:
        price = table.price(instance)
    except PriceError as refused:
        raise InvalidParameter(str(refused), field="/instance") from None
    spans = [(point, (end - point.at) / timedelta(hours=1)) for point, end in line.until_next(line.breakpoints)]
    least = sum(point.min * hours for point, hours in spans)
    most = sum(point.max * hours for point, hours in spans)
    return ScalingEstimate(
        replica_hours=Span(least=round(least, 2), most=round(most, 2)),
        cost=Span(least=round(least * price.per_hour, 2), most=round(most * price.per_hour, 2)),
        currency=table.currency,
        instance=price.name,
        per_hour=price.per_hour,
        prices_as_of=table.as_of.isoformat(),
    )
