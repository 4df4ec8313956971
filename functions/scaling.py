"""Scaling policies over HTTP: what a request asks to store and on which condition, and a plan as a document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from darkroom.database.condition import Condition
from darkroom.errors import InvalidParameter, PolicyNotFound, UnsupportedMediaType
from darkroom.scaling.document import MAX_BYTES, read_policy, written
from darkroom.scaling.fields import zone
from darkroom.scaling.prices import PriceError, read_prices
from darkroom.scaling.storage import Change, StoredPolicy
from darkroom.scaling.timeline import Timeline, timeline
from functions.documents import Document
from functions.submission import media_type, raw_body

_JSON = ("application/json",)
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_ETAGS = re.compile(r'^\s*(?:W/)?"[^"]*"(?:\s*,\s*(?:W/)?"[^"]*")*\s*$')
_ETAG = re.compile(r'(?:W/)?"[^"]*"')
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


def document_of(event: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """The valid policy in a PUT, as it was written.

    Raises: UnsupportedMediaType, PayloadTooLarge, and what `read_policy` raises.
    """
    said = media_type(headers)
    if said not in (*_JSON, *_YAML):
        raise UnsupportedMediaType("Send the policy as application/json or application/yaml.")
    body = raw_body(event, MAX_BYTES)
    return written(read_policy(body, "json" if said in _JSON else "yaml"))


def condition_of(headers: Mapping[str, str]) -> Condition:
    """`If-Match: *` or ETags, and `If-None-Match: *` (RFC 9110); without them any write goes ahead.

    Weak ETags match nothing, as the standard has it for writes. Raises: InvalidParameter.
    """
    match, none_match = (headers.get(name, "").strip() for name in ("if-match", "if-none-match"))
    if match and none_match:
        raise InvalidParameter("Send If-Match or If-None-Match, not both.")
    if none_match:
        if none_match != "*":
            raise InvalidParameter("If-None-Match takes * here: only where there is no policy yet.")
        return Condition(exists=False)
    if not match:
        return Condition()
    if match == "*":
        return Condition(exists=True)
    if not _ETAGS.fullmatch(match):
        raise InvalidParameter('If-Match takes * or the ETag of an answer, quotes included, such as "3".')
    return Condition(match=frozenset(_ETAG.findall(match)))


def changes_document(history: Sequence[Change]) -> ScalingChanges:
    return ScalingChanges(
        changes=[
            ScalingChange(
                version=one.version, at=datetime.fromtimestamp(one.at, UTC), by=one.by, old=one.old, new=one.new
            )
            for one in history
        ]
    )


def plan_document(stored: StoredPolicy, asked: Mapping[str, str], now: datetime) -> ScalingPlan:
    """What the stored policy will do from `from` (default `now`) to `to` (default a week on), at `instance`'s price.

    Times without an offset are in the policy's own zone. Raises: InvalidParameter, PolicyNotFound.
    """
    policy = stored.policy
    if policy is None:
        raise PolicyNotFound
    try:
        start = _moment("from", asked.get("from"), policy.timezone) or now
        end = _moment("to", asked.get("to"), policy.timezone) or start + _USUAL
        if end - start > _LONGEST:
            raise InvalidParameter(f"A plan covers at most {_LONGEST.days} days.", field="/to")
        line = timeline(policy, start, end)
    except (ValueError, OverflowError):
        raise InvalidParameter("`to` must be at least a minute later than `from`.", field="/to") from None
    shown = [
        ScalingBreakpoint(
            at=point.at, local=point.local, min=point.min, max=point.max, window=point.window, why=point.why
        )
        for point in line.breakpoints[:_MOST_BREAKPOINTS]
    ]
    return ScalingPlan.model_validate(
        {
            "model": stored.model,
            "version": stored.version,
            "from": line.start,
            "to": line.end,
            "breakpoints": shown,
            "left_off": len(line.breakpoints) - len(shown),
            "estimate": _estimate(line, asked.get("instance")),
        }
    )


def _moment(name: str, said: str | None, timezone: str) -> datetime | None:
    if said is None:
        return None
    try:
        moment = datetime.fromisoformat(said)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone(timezone))).astimezone(UTC)
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
    ends = [*(point.at for point in line.breakpoints[1:]), line.end]
    hours = [(end - point.at) / timedelta(hours=1) for point, end in zip(line.breakpoints, ends, strict=True)]
    least = sum(point.min * spent for point, spent in zip(line.breakpoints, hours, strict=True))
    most = sum(point.max * spent for point, spent in zip(line.breakpoints, hours, strict=True))
    return ScalingEstimate(
        replica_hours=Span(least=round(least, 2), most=round(most, 2)),
        cost=Span(least=round(least * price.per_hour, 2), most=round(most * price.per_hour, 2)),
        currency=table.currency,
        instance=price.name,
        per_hour=price.per_hour,
        prices_as_of=table.as_of.isoformat(),
    )
