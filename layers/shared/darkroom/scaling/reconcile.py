"""Make Application Auto Scaling what `application_autoscaling` says: create, update, delete only what is ours.

Idempotent, and safe beside another reconciler: before each write the caller's fence (a conditional write that only the
newest holder can make) must say yes. One that was paused and wakes up late therefore writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from darkroom.scaling.application_autoscaling import Desired

# A scheduled action due this soon sets the limits itself; writing them now could overwrite it a moment later.
LEAVE_TO_ACTION = timedelta(seconds=10)
Kind = Literal["created", "updated", "deleted"]
_ACTION_FIELDS = ("Schedule", "Timezone", "StartTime", "EndTime", "ScalableTargetAction")
_POLICY_FIELDS = ("PolicyType", "TargetTrackingScalingPolicyConfiguration", "StepScalingPolicyConfiguration")


_METRICS = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")


class Fenced(Exception):
    """Another reconciler has taken over; nothing more was written."""


class Unregistered(Exception):
    """There is no scalable target, and it is not ours to make."""


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


def clients() -> tuple[Any, Any]:
    """boto3's clients of Application Auto Scaling and CloudWatch, as the environment configures them."""
    import boto3

    return boto3.client("application-autoscaling"), boto3.client("cloudwatch")


def reconcile(
    desired: Desired,
    scaling: Any,
    cloudwatch: Any,
    *,
    fence: Callable[[], bool],
    now: Callable[[], datetime],
    applied: str | None = None,
    registers: bool = True,
) -> Report:
    """Bring about the desired state and say what had to be changed; `scaling` and `cloudwatch` are boto3's clients.

    `applied` is the fingerprint last applied; where it is the desired one, every difference is drift made by hand.
    Without `registers` a scalable target is somebody else's to make. Raises: Fenced, Unregistered, what boto3 raises.
    """
    work = _Reconciliation(desired, scaling, cloudwatch, fence)
    if not registers and work.live_target() is None:
        raise Unregistered
    work.limits(now().astimezone(UTC))
    work.actions()
    arns = work.policies()
    work.alarms(arns)
    work.obsolete_policies()
    work.report.drift = not work.report.unchanged and applied == desired.fingerprint()
    return work.report


def remove(desired: Desired, scaling: Any, cloudwatch: Any, *, fence: Callable[[], bool]) -> Report:
    """Delete what is ours, and the scalable target with it; the endpoint keeps the instances it has.

    Raises: Fenced, and what boto3 raises.
    """
    work = _Reconciliation(Desired(desired.endpoint, desired.timeline, {}, {}, {}), scaling, cloudwatch, fence)
    work.actions()
    work.alarms({})
    work.obsolete_policies()
    if work.live_target() is not None:
        work.write("deleted", work.target["ResourceId"], scaling.deregister_scalable_target, **work.target)
    return work.report


@dataclass
class _Reconciliation:
    """Everything that writes goes through the fence, and into the report."""

    desired: Desired
    scaling: Any
    cloudwatch: Any
    fence: Callable[[], bool]
    report: Report = field(default_factory=Report)

    @property
    def target(self) -> dict[str, str]:
        return self.desired.endpoint.target

    def write(self, kind: Kind, name: str, call: Callable[..., Any], **arguments: Any) -> Any:
        if not self.fence():
            raise Fenced("another reconciler has taken over")
        response = call(**arguments)
        getattr(self.report, kind).append(name)
        return response

    def put(self, name: str, call: Callable[..., Any], *, exists: bool, **arguments: Any) -> Any:
        return self.write("updated" if exists else "created", name, call, **arguments)

    def live_target(self) -> dict[str, Any] | None:
        targets = self.scaling.describe_scalable_targets(
            ServiceNamespace=self.target["ServiceNamespace"],
            ResourceIds=[self.target["ResourceId"]],
            ScalableDimension=self.target["ScalableDimension"],
        )["ScalableTargets"]
        return targets[0] if targets else None

    def register(self, live: dict[str, Any] | None, limits: tuple[int, int]) -> None:
        """Give the target these limits (min, max), where it has others or is not there."""
        if live is None or (live["MinCapacity"], live["MaxCapacity"]) != limits:
            arguments = {**self.target, "MinCapacity": limits[0], "MaxCapacity": limits[1]}
            call = self.scaling.register_scalable_target
            self.put(self.target["ResourceId"], call, exists=live is not None, **arguments)

    def limits(self, now: datetime) -> None:
        line = self.desired.timeline
        limits, live = line.at(now).limits, self.live_target()
        soon = min(now + LEAVE_TO_ACTION, line.end - timedelta(microseconds=1))
        if live is None or line.at(soon).limits == limits:
            self.register(live, limits)

    def actions(self) -> None:
        """Old ones go first: an old and a new action at one instant would race."""
        wanted = self.desired.actions
        actions = _pages(self.scaling.describe_scheduled_actions, "ScheduledActions", **self.target)
        live = self._owned(actions, "ScheduledActionName")
        for name in sorted(live.keys() - wanted.keys()):
            call = self.scaling.delete_scheduled_action
            self.write("deleted", name, call, **self.target, ScheduledActionName=name)
        for name, action in wanted.items():
            if name not in live or _differs(live[name], action, _ACTION_FIELDS):
                arguments = {**self.target, "ScheduledActionName": name, **action}
                self.put(name, self.scaling.put_scheduled_action, exists=name in live, **arguments)

    def live_policies(self) -> list[dict[str, Any]]:
        return list(_pages(self.scaling.describe_scaling_policies, "ScalingPolicies", **self.target))

    def policies(self) -> dict[str, str]:
        """Put what differs; the ARN of each policy, by name.

        A target has one target-tracking policy for a metric: another owner's, which would have ours refused, goes.
        """
        found = self.live_policies()
        live = self._owned(found, "PolicyName")
        for name in sorted(one["PolicyName"] for one in found if one["PolicyName"] not in live and self._rivals(one)):
            self.write("deleted", name, self.scaling.delete_scaling_policy, **self.target, PolicyName=name)
        arns: dict[str, str] = {}
        for name, policy in self.desired.policies.items():
            if name in live and not _differs(live[name], policy, _POLICY_FIELDS):
                arns[name] = live[name]["PolicyARN"]
                continue
            arguments = {**self.target, "PolicyName": name, **policy}
            response = self.put(name, self.scaling.put_scaling_policy, exists=name in live, **arguments)
            arns[name] = response["PolicyARN"]
        return arns

    def obsolete_policies(self) -> None:
        """Last, so that the endpoint is never without a policy."""
        live = self._owned(self.live_policies(), "PolicyName")
        for name in sorted(live.keys() - self.desired.policies.keys()):
            self.write("deleted", name, self.scaling.delete_scaling_policy, **self.target, PolicyName=name)

    def alarms(self, arns: Mapping[str, str]) -> None:
        prefix = self.desired.endpoint.prefix
        live = self._owned(_pages(self.cloudwatch.describe_alarms, "MetricAlarms", AlarmNamePrefix=prefix), "AlarmName")
        for name, alarm in self.desired.alarms.items():
            arguments = {**alarm, "AlarmActions": [arns[name]]}
            if name not in live or _differs(live[name], arguments, arguments):
                put = self.cloudwatch.put_metric_alarm
                self.put(f"alarm {name}", put, exists=name in live, AlarmName=name, **arguments)
        for name in sorted(live.keys() - self.desired.alarms.keys()):
            self.write("deleted", f"alarm {name}", self.cloudwatch.delete_alarms, AlarmNames=[name])

    def _rivals(self, other: Mapping[str, Any]) -> bool:
        tracked = _metric(other)
        return bool(tracked) and any(_metric(policy) == tracked for policy in self.desired.policies.values())

    def _owned(self, resources: Iterable[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
        return {one[name]: one for one in resources if one[name].startswith(self.desired.endpoint.prefix)}


def _pages(call: Callable[..., Any], key: str, **arguments: Any) -> Iterable[dict[str, Any]]:
    token: dict[str, Any] = {}
    while True:
        response = call(**arguments, **token)
        yield from response[key]
        if not response.get("NextToken"):
            return
        token = {"NextToken": response["NextToken"]}


def _metric(policy: Mapping[str, Any]) -> Any:
    """The metric specification of a target-tracking policy; empty of any other."""
    tracking = policy.get("TargetTrackingScalingPolicyConfiguration", {})
    return _comparable({name: tracking.get(name) for name in _METRICS})


def _differs(live: Mapping[str, Any], wanted: Mapping[str, Any], fields: Iterable[str]) -> bool:
    return any(_comparable(live.get(name)) != _comparable(wanted.get(name)) for name in fields)


def _comparable(value: Any) -> Any:
    """As an API may answer it: instants in any zone, whole numbers as floats, what is empty or off left out."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, Mapping):
        return {
            key: _comparable(member)
            for key, member in value.items()
            if not (member is None or member is False or member in ([], {}))
        }
    if isinstance(value, list):
        return [_comparable(member) for member in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
