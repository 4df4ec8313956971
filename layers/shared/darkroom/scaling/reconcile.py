"""Make Application Auto Scaling what `application_autoscaling` says: create, update, delete only what is ours.

Idempotent, and safe beside another reconciler: before each write the caller's fence (a conditional write that only the
newest holder can make) must say yes. One that was paused and wakes up late therefore writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from darkroom.scaling.application_autoscaling import Desired

# A scheduled action due this soon sets the limits itself; writing them now could overwrite it a moment later.
LEAVE_TO_ACTION = timedelta(seconds=10)
Kind = Literal["created", "updated", "deleted"]
_ACTION_FIELDS = ("Schedule", "Timezone", "StartTime", "EndTime", "ScalableTargetAction")
_POLICY_FIELDS = ("PolicyType", "TargetTrackingScalingPolicyConfiguration", "StepScalingPolicyConfiguration")


class Client(Protocol):
    """A boto3 client; its methods are made at run time."""

    def __getattr__(self, name: str) -> Any: ...


class Fenced(Exception):
    """Another reconciler has taken over; nothing more was written."""


@dataclass
class Report:
    """Names of what was changed. With `drift`, someone else had changed it since the same state was last applied."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    drift: bool = False

    @property
    def unchanged(self) -> bool:
        return not (self.created or self.updated or self.deleted)


def clients() -> tuple[Client, Client]:
    """Application Auto Scaling and CloudWatch, as the environment configures them."""
    import boto3

    return boto3.client("application-autoscaling"), boto3.client("cloudwatch")


@dataclass
class _Writer:
    """Everything that writes goes through the fence, and into the report."""

    fence: Callable[[], bool]
    report: Report

    def write(self, kind: Kind, name: str, call: Callable[..., Any], **arguments: Any) -> Any:
        if not self.fence():
            raise Fenced("another reconciler has taken over")
        response = call(**arguments)
        getattr(self.report, kind).append(name)
        return response

    def put(self, name: str, call: Callable[..., Any], *, exists: bool, **arguments: Any) -> Any:
        return self.write("updated" if exists else "created", name, call, **arguments)


def reconcile(
    desired: Desired,
    scaling: Client,
    cloudwatch: Client,
    *,
    fence: Callable[[], bool],
    now: Callable[[], datetime],
    applied: str | None = None,
) -> Report:
    """Bring about the desired state and say what had to be changed.

    `applied` is the fingerprint last applied; where it is the desired one, every difference is drift made by hand.
    Raises: Fenced, and what boto3 raises.
    """
    writer = _Writer(fence, Report())
    _limits(desired, scaling, writer, now())
    _actions(desired, scaling, writer)
    arns = _policies(desired, scaling, writer)
    _alarms(desired, cloudwatch, writer, arns)
    _obsolete_policies(desired, scaling, writer)
    writer.report.drift = not writer.report.unchanged and applied == desired.fingerprint()
    return writer.report


def remove(
    desired: Desired,
    scaling: Client,
    cloudwatch: Client,
    *,
    fence: Callable[[], bool],
    leave: tuple[int, int] | None = None,
) -> Report:
    """Delete what is ours, and the scalable target with it, or `leave` it with these limits (min, max); the endpoint
    keeps the instances it has.

    Raises: Fenced, and what boto3 raises.
    """
    empty = Desired(desired.endpoint, desired.timeline, {}, {}, {}, {})
    writer = _Writer(fence, Report())
    _actions(empty, scaling, writer)
    _alarms(empty, cloudwatch, writer, {})
    _obsolete_policies(empty, scaling, writer)
    target, live = desired.endpoint.target, _live_target(desired, scaling)
    name, register = target["ResourceId"], scaling.register_scalable_target
    if leave is None:
        if live is not None:
            writer.write("deleted", name, scaling.deregister_scalable_target, **target)
    elif live is None or (live["MinCapacity"], live["MaxCapacity"]) != leave:
        limits = {"MinCapacity": leave[0], "MaxCapacity": leave[1]}
        writer.put(name, register, exists=live is not None, **target, **limits)
    return writer.report


def _live_target(desired: Desired, scaling: Client) -> dict[str, Any] | None:
    target = desired.endpoint.target
    targets = scaling.describe_scalable_targets(
        ServiceNamespace=target["ServiceNamespace"],
        ResourceIds=[target["ResourceId"]],
        ScalableDimension=target["ScalableDimension"],
    )["ScalableTargets"]
    return targets[0] if targets else None


def _limits(desired: Desired, scaling: Client, writer: _Writer, now: datetime) -> None:
    target, line = desired.endpoint.target, desired.timeline
    now = now.astimezone(UTC)
    live = _live_target(desired, scaling)
    point = line.at(now)
    soon = min(now + LEAVE_TO_ACTION, line.end - timedelta(microseconds=1))
    if live is not None and line.at(soon).limits != point.limits:
        return
    if live is None or (live["MinCapacity"], live["MaxCapacity"]) != point.limits:
        limits = {"MinCapacity": point.min, "MaxCapacity": point.max}
        name, call = target["ResourceId"], scaling.register_scalable_target
        writer.put(name, call, exists=live is not None, **target, **limits)


def _pages(call: Callable[..., Any], key: str, **arguments: Any) -> Iterable[dict[str, Any]]:
    token: dict[str, Any] = {}
    while True:
        response = call(**arguments, **token)
        yield from response[key]
        if not response.get("NextToken"):
            return
        token = {"NextToken": response["NextToken"]}


def _owned(desired: Desired, resources: Iterable[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    return {one[name]: one for one in resources if one[name].startswith(desired.endpoint.prefix)}


def _differs(live: Mapping[str, Any], wanted: Mapping[str, Any], fields: Iterable[str]) -> bool:
    return any(_comparable(live.get(name)) != _comparable(wanted.get(name)) for name in fields)


def _comparable(value: Any) -> Any:
    """As an API may answer it: instants in any zone, whole numbers as floats, empty members left out."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, Mapping):
        return {key: _comparable(member) for key, member in value.items() if member not in (None, [], {})}
    if isinstance(value, list):
        return [_comparable(member) for member in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _actions(desired: Desired, scaling: Client, writer: _Writer) -> None:
    """Old ones go first: an old and a new action at one instant would race."""
    target = desired.endpoint.target
    actions = _pages(scaling.describe_scheduled_actions, "ScheduledActions", **target)
    live = _owned(desired, actions, "ScheduledActionName")
    for name in sorted(live.keys() - desired.actions.keys()):
        writer.write("deleted", name, scaling.delete_scheduled_action, **target, ScheduledActionName=name)
    for name, action in desired.actions.items():
        if name not in live or _differs(live[name], action, _ACTION_FIELDS):
            arguments = {**target, "ScheduledActionName": name, **action}
            writer.put(name, scaling.put_scheduled_action, exists=name in live, **arguments)


def _live_policies(desired: Desired, scaling: Client) -> dict[str, dict[str, Any]]:
    policies = _pages(scaling.describe_scaling_policies, "ScalingPolicies", **desired.endpoint.target)
    return _owned(desired, policies, "PolicyName")


def _policies(desired: Desired, scaling: Client, writer: _Writer) -> dict[str, str]:
    """Put what differs; the ARN of each policy, by name."""
    live = _live_policies(desired, scaling)
    arns: dict[str, str] = {}
    for name, policy in desired.policies.items():
        if name in live and not _differs(live[name], policy, _POLICY_FIELDS):
            arns[name] = live[name]["PolicyARN"]
            continue
        arguments = {**desired.endpoint.target, "PolicyName": name, **policy}
        response = writer.put(name, scaling.put_scaling_policy, exists=name in live, **arguments)
        arns[name] = response["PolicyARN"]
    return arns


def _obsolete_policies(desired: Desired, scaling: Client, writer: _Writer) -> None:
    """Last, so that no metric is ever without a policy."""
    for name in sorted(_live_policies(desired, scaling).keys() - desired.policies.keys()):
        writer.write("deleted", name, scaling.delete_scaling_policy, **desired.endpoint.target, PolicyName=name)


def _alarms(desired: Desired, cloudwatch: Client, writer: _Writer, arns: Mapping[str, str]) -> None:
    alarms = _pages(cloudwatch.describe_alarms, "MetricAlarms", AlarmNamePrefix=desired.endpoint.prefix)
    live = _owned(desired, alarms, "AlarmName")
    for name, alarm in desired.alarms.items():
        arguments = {**alarm, "AlarmActions": [arns[desired.alarm_policy[name]]]}
        if name not in live or _differs(live[name], arguments, arguments):
            put = cloudwatch.put_metric_alarm
            writer.put(f"alarm {name}", put, exists=name in live, AlarmName=name, **arguments)
    for name in sorted(live.keys() - desired.alarms.keys()):
        writer.write("deleted", f"alarm {name}", cloudwatch.delete_alarms, AlarmNames=[name])
