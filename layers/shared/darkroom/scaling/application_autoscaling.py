"""A policy on a SageMaker endpoint -> Application Auto Scaling: scheduled actions, target tracking, and waking up.

Pure: what `reconcile` is to bring about, as the very arguments of the API's calls. A scheduled action overwrites both
limits at its instant and nothing reverts it; hence non-overlapping actions that always set both (`recurrence`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from darkroom.errors import InvalidPolicy
from darkroom.scaling.fields import DAYS
from darkroom.scaling.policy import Metric, MetricName, ScalingPolicy
from darkroom.scaling.recurrence import Once, Weekly, actions
from darkroom.scaling.timeline import Timeline, timeline

AHEAD = timedelta(days=366)  # what scheduled actions are compiled for; each tick looks as far again
MOST_ACTIONS = 200  # scheduled actions a scalable target may have
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_ONE_MORE = {
    "AdjustmentType": "ChangeInCapacity",
    "MetricAggregationType": "Maximum",
    "Cooldown": 300,
    "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
}


@dataclass(frozen=True)
class ScalableEndpoint:
    """What is scaled. `gpus` and `cores` per instance: SageMaker's utilisation metrics count 100 for each of them."""

    name: str
    variant: str = "AllTraffic"
    asynchronous: bool = True
    gpus: int = 1
    cores: int = 4

    @property
    def target(self) -> dict[str, str]:
        return {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{self.name}/variant/{self.variant}",
            "ScalableDimension": DIMENSION,
        }

    @property
    def prefix(self) -> str:
        """What everything we own is named by; endpoint names have no dot, so no prefix begins another."""
        return f"darkroom.{self.name}."


@dataclass(frozen=True)
class Desired:
    """What should exist, by name: arguments of put_scheduled_action, put_scaling_policy and put_metric_alarm.

    An alarm triggers the scaling policy of its name. The target's own limits follow `timeline`.
    """

    endpoint: ScalableEndpoint
    timeline: Timeline
    actions: Mapping[str, dict[str, Any]]
    policies: Mapping[str, dict[str, Any]]
    alarms: Mapping[str, dict[str, Any]]

    def fingerprint(self) -> str:
        """SHA-256 of all but the limits in force; equal fingerprints ask for the same actions, policies and alarms."""
        parts = [self.endpoint.target, self.actions, self.policies, self.alarms]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def compile_policy(policy: ScalingPolicy, line: Timeline, endpoint: ScalableEndpoint) -> Desired:
    """What Application Auto Scaling must be told so that it follows the policy over the timeline.

    Raises: InvalidPolicy where it cannot: over 200 scheduled actions, zero replicas of a real-time endpoint, or a
    metric that an asynchronous one does not publish.
    """
    to_zero = any(point.min == 0 for point in line.breakpoints)
    if to_zero and not endpoint.asynchronous:
        raise InvalidPolicy(
            "A real-time endpoint cannot be scaled to zero; use min 1, or an asynchronous endpoint.", field="/min"
        )
    if endpoint.asynchronous and policy.metrics.requests_per_second is not None:
        # "Alarms and logs for tracking metrics from asynchronous endpoints" in SageMaker's Developer Guide: its list is
        # exhaustive and names InvocationsPerInstance as not published. Without data nothing is ever scaled in.
        raise InvalidPolicy(
            "An asynchronous endpoint publishes no requests per second; use queue_depth, such as "
            '{"queue_depth": 4}, or a real-time endpoint.',
            field="/metrics/requests_per_second",
        )
    scheduled = actions(line)
    if len(scheduled) > MOST_ACTIONS:
        raise InvalidPolicy(
            f"These windows need {len(scheduled)} scheduled actions and Application Auto Scaling takes {MOST_ACTIONS}: "
            "use fewer windows, fewer exceptions, or a cron that fires less often.",
            field="/windows",
        )
    named = {f"{endpoint.prefix}{_name(one)}": _action(one) for one in scheduled}
    policies = {
        f"{endpoint.prefix}{name}": {
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": _tracking(name, metric, endpoint, policy, to_zero=to_zero),
        }
        for name, metric in policy.metrics.chosen()
    }
    alarms: dict[str, dict[str, Any]] = {}
    if to_zero:
        wake = f"{endpoint.prefix}wake"
        policies[wake] = {"PolicyType": "StepScaling", "StepScalingPolicyConfiguration": _ONE_MORE}
        alarms[wake] = _backlog_without_capacity(endpoint)
    return Desired(endpoint, line, named, policies, alarms)


def refuse_unfollowable(policy: ScalingPolicy, now: datetime, *, asynchronous: bool) -> None:
    """Raises: InvalidPolicy where an endpoint of this kind cannot follow the policy in the year from `now` on."""
    compile_policy(policy, timeline(policy, now, now + AHEAD), ScalableEndpoint("any", asynchronous=asynchronous))


def _name(action: Weekly | Once) -> str:
    """Readable, and unique for what the action does, so that a changed action is another action."""
    digest = hashlib.sha256(repr(action).encode()).hexdigest()[:8]
    if isinstance(action, Once):
        return f"once-{action.at:%Y%m%d-%H%M}-{action.min}-to-{action.max}-{digest}"
    days = "daily" if len(action.weekdays) == 7 else "-".join(DAYS[day] for day in action.weekdays)
    return f"{days}-{action.hours[0]:02d}{action.minute:02d}-{action.min}-to-{action.max}-{digest}"


def _action(action: Weekly | Once) -> dict[str, Any]:
    limits = {"MinCapacity": action.min, "MaxCapacity": action.max}
    if isinstance(action, Once):
        return {"Schedule": f"at({action.at:%Y-%m-%dT%H:%M:%S})", "Timezone": "UTC", "ScalableTargetAction": limits}
    days = "*" if len(action.weekdays) == 7 else ",".join(DAYS[day].upper() for day in action.weekdays)
    hours = ",".join(str(hour) for hour in action.hours)
    arguments: dict[str, Any] = {
        "Schedule": f"cron({action.minute} {hours} ? * {days} *)",
        "Timezone": action.zone,
        "ScalableTargetAction": limits,
    }
    if action.starts is not None:  # the action also runs at its start time: that is its first firing
        arguments["StartTime"] = action.starts
    if action.ends is not None:
        arguments["EndTime"] = action.ends
    return arguments


def _tracking(
    name: MetricName, metric: Metric, endpoint: ScalableEndpoint, policy: ScalingPolicy, *, to_zero: bool
) -> dict[str, Any]:
    scale_in = metric.scale_in_cooldown
    if to_zero and name == "queue_depth":
        scale_in = max(scale_in, policy.scale_to_zero_after)
    tracking: dict[str, Any] = {
        "ScaleOutCooldown": int(metric.scale_out_cooldown.total_seconds()),
        "ScaleInCooldown": int(scale_in.total_seconds()),
    }
    if name == "requests_per_second":  # predefined metrics count invocations a minute
        return tracking | _predefined("SageMakerVariantInvocationsPerInstance", 60 * metric.target)
    if name == "queue_depth" and not endpoint.asynchronous:
        return tracking | _predefined("SageMakerVariantConcurrentRequestsPerModelHighResolution", metric.target)
    variant = {"EndpointName": endpoint.name, "VariantName": endpoint.variant}
    space, metric_name, dimensions, scale = {
        "gpu": ("/aws/sagemaker/Endpoints", "GPUUtilization", variant, float(endpoint.gpus)),
        "cpu": ("/aws/sagemaker/Endpoints", "CPUUtilization", variant, float(endpoint.cores)),
        "memory": ("/aws/sagemaker/Endpoints", "MemoryUtilization", variant, 1.0),
        "queue_depth": ("AWS/SageMaker", "ApproximateBacklogSizePerInstance", {"EndpointName": endpoint.name}, 1.0),
        "latency": ("AWS/SageMaker", "ModelLatency", variant, 1e6),  # microseconds
    }[name]
    tracking["TargetValue"] = scale * metric.target
    place = {
        "Namespace": space,
        "MetricName": metric_name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
    }
    if metric.statistic in ("average", "maximum"):
        return tracking | {"CustomizedMetricSpecification": place | {"Statistic": metric.statistic.capitalize()}}
    # A percentile is not a `Statistic`; metric math takes one.
    query = {"Id": "m", "MetricStat": {"Metric": place, "Stat": metric.statistic}, "ReturnData": True}
    return tracking | {"CustomizedMetricSpecification": {"Metrics": [query]}}


def _predefined(metric: str, target: float) -> dict[str, Any]:
    return {"TargetValue": target, "PredefinedMetricSpecification": {"PredefinedMetricType": metric}}


def _backlog_without_capacity(endpoint: ScalableEndpoint) -> dict[str, Any]:
    """The alarm that wakes an endpoint at zero; backlog *per instance* says nothing where there is no instance."""
    return {
        "AlarmDescription": "Requests wait and no instance runs: start one.",
        "Namespace": "AWS/SageMaker",
        "MetricName": "HasBacklogWithoutCapacity",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint.name}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
    }


def described(desired: Desired, at: datetime) -> dict[str, Any]:
    """The desired state as JSON values, for a person to read before anything is applied."""
    point = desired.timeline.at(at.astimezone(UTC))
    limits = {"MinCapacity": point.min, "MaxCapacity": point.max}
    values: dict[str, Any] = json.loads(
        json.dumps(
            {
                "scalable_target": desired.endpoint.target | limits,
                "scheduled_actions": dict(desired.actions),
                "scaling_policies": dict(desired.policies),
                "alarms": dict(desired.alarms),
            },
            default=datetime.isoformat,
        )
    )
    return values
