"""Alarms, who is told, and the dashboard: metrics that exist, thresholds that separate, a page that says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from darkroom.errors import EngineIntegrity
from darkroom.release import fleet
from tests.infrastructure.iam import allows
from tests.infrastructure.rulebook import rule, states, wants
from tests.infrastructure.rules.endpoint import name_of
from tests.infrastructure.rules.functions import environment
from tests.infrastructure.stack import ROOT, Resource, Stack

# Metrics that AWS or we publish, with the dimensions of each (a metric under others has no data, and nobody says so).
_ENDPOINT, _VARIANT = ("EndpointName",), ("EndpointName", "VariantName")
METRICS: dict[tuple[str, str], tuple[str, ...]] = {
    ("AWS/ApiGateway", "Count"): ("ApiId",),
    ("AWS/ApiGateway", "4xx"): ("ApiId",),
    ("AWS/ApiGateway", "5xx"): ("ApiId",),
    ("AWS/ApiGateway", "Latency"): ("ApiId",),
    ("AWS/SageMaker", "Invocation5XXErrors"): _VARIANT,
    ("AWS/SageMaker", "ModelLatency"): _VARIANT,
    ("AWS/SageMaker", "HasBacklogWithoutCapacity"): _ENDPOINT,
    ("AWS/SageMaker", "ApproximateBacklogSize"): _ENDPOINT,
    ("AWS/SageMaker", "ApproximateAgeOfOldestRequest"): _ENDPOINT,
    ("/aws/sagemaker/Endpoints", "GPUUtilization"): _VARIANT,
    ("/aws/sagemaker/Endpoints", "GPUMemoryUtilization"): _VARIANT,
    ("/aws/sagemaker/Endpoints", "CPUUtilization"): _VARIANT,
    ("AWS/Lambda", "Errors"): ("FunctionName",),
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): ("QueueName",),
    ("Darkroom/darkroom", "EngineRefusals"): (),
    ("Darkroom/darkroom", "Release.returned"): ("service",),
    ("Darkroom/darkroom", "Release.stuck"): ("service",),
}
# Alarm -> metric values of one period that must be quiet, and that must be loud, and how long they last until it rings.
SEPARATES: dict[str, tuple[dict[str, float], dict[str, float], int]] = {
    "ApiErrors": ({"errors": 4, "answers": 100}, {"errors": 6, "answers": 100}, 600),
    "ApiSlow": ({"": 26_000}, {"": 29_000}, 900),
    "EndpointErrors": ({"": 2}, {"": 3}, 120),
    "Slow": ({"microseconds": 59e6}, {"microseconds": 61e6}, 180),
    "BacklogAge": ({"seconds": 14 * 60}, {"seconds": 16 * 60}, 300),
    "Asleep": ({"": 0}, {"": 1}, 900),
    "EngineIntegrity": ({"": 0}, {"": 1}, 60),
    "JobEventsErrors": ({"": 0}, {"": 1}, 600),
    "ScaleErrors": ({"": 0}, {"": 1}, 900),
    "ReleaseErrors": ({"": 0}, {"": 1}, 600),
    "ReleaseReturned": ({"": 0}, {"": 1}, 300),
    "ReleaseStuck": ({"": 0}, {"": 1}, 300),
    "NotHandled": ({"": 0}, {"": 1}, 300),
}
STATISTICS = {
    "ApiErrors": "Sum",
    "ApiSlow": "p99",
    "EndpointErrors": "Sum",
    "Slow": "p95",
    "BacklogAge": "Maximum",
    "Asleep": "Minimum",
    "EngineIntegrity": "Sum",
    "JobEventsErrors": "Sum",
    "ScaleErrors": "Sum",
    "ReleaseErrors": "Sum",
    "ReleaseReturned": "Sum",
    "ReleaseStuck": "Sum",
    "NotHandled": "Maximum",
}
ASYNC_ONLY = {"BacklogAge", "Asleep"}
# Until a value of a period's end is in an alarm: CloudWatch takes a minute or two to have it and to evaluate.
_EVALUATED_SECONDS = 60
_COMPARISONS = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
}


@rule
def there_is_an_alarm_for_what_goes_wrong(stack: Stack) -> Iterator[str]:
    """Every alarm is known to these rules; those of a queue exist where there is a queue."""
    found = {one.name for one in stack.of("AWS::CloudWatch::Alarm")}
    queue = stack.parameters["EndpointType"] == "async"
    wanted = SEPARATES.keys() - (set() if queue else ASYNC_ONLY)
    yield from wants(found == wanted, f"alarms {sorted(found ^ wanted)}")


@rule
def alarms_watch_metrics_that_exist(stack: Stack) -> Iterator[str]:
    """Namespace, name and dimensions are those under which there is data, of this deployment's own resources."""
    ours = _ours(stack)
    for alarm in stack.of("AWS::CloudWatch::Alarm"):
        for metric, statistic, period in _metrics(alarm):
            known = METRICS.get((metric["Namespace"], metric["MetricName"]))
            dimensions = {one["Name"]: one["Value"] for one in metric.get("Dimensions", [])}
            yield from wants(known is not None, f"{alarm.name}: no such metric: {metric}")
            yield from wants(tuple(sorted(dimensions)) == known, f"{alarm.name}: no data under {sorted(dimensions)}")
            for key, value in dimensions.items():
                yield from wants(value in ours[key], f"{alarm.name} watches another {key}: {value}")
            yield from wants(statistic == STATISTICS[alarm.name], f"{alarm.name}: {statistic}")
            yield from wants(period % 60 == 0 and period > 0, f"{alarm.name}: a period of {period} s")
        if "Metrics" not in alarm.properties:
            continue
        shown = [one["Id"] for one in alarm["Metrics"] if one["ReturnData"]]
        yield from wants(len(shown) == 1, f"{alarm.name} compares {shown}")
        for one in alarm["Metrics"]:
            yield from wants(("Expression" in one) == one["ReturnData"], f"{alarm.name}: {one['Id']}")
            if one["ReturnData"]:
                yield from states(alarm.name, one, "Label")


def _ours(stack: Stack) -> dict[str, set[str]]:
    return {
        "ApiId": {"api-id"},
        "EndpointName": {name_of(stack)},
        "VariantName": {"AllTraffic"},
        "FunctionName": {one["FunctionName"] for one in stack.of("AWS::Serverless::Function")},
        "QueueName": {"deadletters-id"},
        "service": {environment(one)["POWERTOOLS_SERVICE_NAME"] for one in stack.functions().values()},
    }


def _metrics(alarm: Resource) -> Iterator[tuple[dict[str, Any], str, int]]:
    if "Metrics" not in alarm.properties:
        yield alarm.properties, alarm.get("Statistic") or alarm["ExtendedStatistic"], alarm["Period"]
        return
    for one in alarm["Metrics"]:
        if "MetricStat" in one:
            yield one["MetricStat"]["Metric"], one["MetricStat"]["Stat"], one["MetricStat"]["Period"]


@rule
def alarms_separate_the_usual_from_the_wrong(stack: Stack) -> Iterator[str]:
    """Each stays quiet at a value that is usual and rings at one that is not, after as long as it should take."""
    for alarm in stack.of("AWS::CloudWatch::Alarm"):
        quiet, loud, seconds = SEPARATES[alarm.name]
        yield from wants(not _rings(alarm, quiet), f"{alarm.name} rings at {quiet}")
        yield from wants(_rings(alarm, loud), f"{alarm.name} is silent at {loud}")
        ((*_, period), *_) = _metrics(alarm)
        yield from wants(
            period * alarm["EvaluationPeriods"] == seconds, f"{alarm.name} does not ring after {seconds} s"
        )
    if "ApiErrors" in stack.resources:  # a single failure at night is no share worth waking anyone for
        few = _rings(stack.resources["ApiErrors"], {"errors": 1, "answers": 2})
        yield from wants(not few, "ApiErrors rings at one error of two answers")


@rule
def alarms_ring_while_a_release_is_watched(stack: Stack) -> Iterator[str]:
    """An alarm that rolls back rings within the bake: it begins as the new version gets requests, and after it nobody
    listens."""
    bakes = {fleet.WAIT_SECONDS} | {
        endpoint["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"]
        for endpoint in stack.of("AWS::SageMaker::Endpoint")
    }
    for name in environment(stack.functions()["release"])["DARKROOM_ROLLBACK_ALARMS"].split(","):
        (alarm,) = (one for one in stack.of("AWS::CloudWatch::Alarm") if one["AlarmName"] == name)
        ((*_, period), *_) = _metrics(alarm)
        # The first period has begun before the new version: it may count for the old one.
        seconds = period * (alarm["EvaluationPeriods"] + 1) + _EVALUATED_SECONDS
        yield from wants(seconds <= min(bakes), f"{name} takes {seconds} s and the bake {min(bakes)} s")


def _rings(alarm: Resource, values: dict[str, float]) -> bool:
    if "Metrics" in alarm.properties:
        ids = {one["Id"] for one in alarm["Metrics"] if "MetricStat" in one}
        if ids != values.keys():
            raise ValueError(f"{alarm.name} reads {ids}")
        (expression,) = [one["Expression"] for one in alarm["Metrics"] if "Expression" in one]
        value = _calculated(expression, values)
    else:
        value = values[""]
    return bool(_COMPARISONS[alarm["ComparisonOperator"]](value, alarm["Threshold"]))


def _calculated(expression: str, values: dict[str, float]) -> float:
    """Metric math, as far as we use it: `a / b` and `IF(condition, then, else)`."""
    match = re.fullmatch(r"IF\((\w+) > (\d+), (\w+) / (\w+), 0\)", expression)
    if match:
        return values[match[3]] / values[match[4]] if values[match[1]] > float(match[2]) else 0.0
    match = re.fullmatch(r"(\w+) / (\d+)", expression)
    if not match:
        raise ValueError(f"no such metric math here: {expression}")
    return values[match[1]] / float(match[2])


def explained() -> dict[str, tuple[str, str]]:
    """Alarm -> what it means and what to do, as the table of docs/aws.md has it."""
    page = (ROOT / "docs/aws.md").read_text(encoding="utf-8").partition("\n## Alarms\n")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.{10,}) \| (.{10,}) \|$", page.partition("\n## ")[0], re.MULTILINE)
    return {name: (means, do) for name, means, do in rows}


@rule
def alarms_tell_somebody_what_to_do(stack: Stack) -> Iterator[str]:
    """Each has a name of this deployment's, says what missing data mean, tells when it begins and ends."""
    page = explained()
    told = stack._ref("Alarms")
    for alarm in stack.of("AWS::CloudWatch::Alarm"):
        short = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alarm.name).lower()
        named = f"{stack.parameters['Deployment']}-{short}"
        yield from wants(alarm["AlarmName"] == named, f"{alarm.name} must be called {named}")
        description = alarm["AlarmDescription"]
        yield from wants(alarm["TreatMissingData"] == "notBreaching", f"{alarm.name}: no data is no alarm")
        yield from wants(f'"{short}" in docs/aws.md' in description, f"{alarm.name} does not say where to look")
        yield from wants(short in page, f"docs/aws.md does not say what {short} means and what to do")
        for when in ("AlarmActions", "OKActions"):
            yield from wants(alarm[when] == [told], f"{alarm.name}: {when}")


@rule
def alarms_arrive(stack: Stack) -> Iterator[str]:
    """CloudWatch may publish to the topic (but not use SNS's own key), nobody else may, and mail goes to AlarmEmail."""
    topic, policy = stack.resources["Alarms"], stack.resources["AlarmsFromCloudWatch"]
    arn = stack._ref("Alarms")
    yield from wants(topic.get("KmsMasterKeyId") != "alias/aws/sns", "CloudWatch may not use that key")
    yield from states(topic.name, topic.properties, "DisplayName")
    yield from wants(policy["Topics"] == [arn], "the policy is for another topic")
    statements = policy["PolicyDocument"]["Statement"]
    principals = [one["Principal"] for one in statements]
    yield from wants(principals == [{"Service": "cloudwatch.amazonaws.com"}], f"open to {principals}")
    ours, others = ({"aws:SourceAccount": account} for account in ("123456789012", "210987654321"))
    yield from wants(allows(statements, "sns:Publish", arn, ours), "CloudWatch may not publish")
    yield from wants(not allows(statements, "sns:Publish", arn, others), "another account may publish")
    mails = [one for one in stack.of("AWS::SNS::Subscription") if one["TopicArn"] == arn]
    wanted = [stack.parameters["AlarmEmail"]] if stack.parameters["AlarmEmail"] else []
    yield from wants([one["Endpoint"] for one in mails] == wanted, "the mail goes elsewhere")
    yield from wants(all(one["Protocol"] == "email" for one in mails), "no mail")


@rule
def refused_engines_are_counted(stack: Stack) -> Iterator[str]:
    """The container's log line becomes the metric that the alarm watches: one each, none where there are none."""
    (counted,) = stack.of("AWS::Logs::MetricFilter")
    yield from wants(counted["LogGroupName"] == stack.resources["EndpointLogs"]["LogGroupName"], "another log")
    yield from wants(counted["FilterPattern"] == f'"{EngineIntegrity.code}"', "another line is counted")
    (metric,) = counted["MetricTransformations"]
    alarm = stack.resources["EngineIntegrity"]
    same = (metric["MetricNamespace"], metric["MetricName"]) == (alarm["Namespace"], alarm["MetricName"])
    yield from wants(same, "the alarm watches another metric")
    yield from wants((metric["MetricValue"], metric["DefaultValue"]) == ("1", 0), "a line counts as one")


@rule
def the_dashboard_shows_what_there_is(stack: Stack) -> Iterator[str]:
    """JSON that CloudWatch draws: titled widgets side by side, of metrics that exist, every function's errors too."""
    (dashboard,) = stack.of("AWS::CloudWatch::Dashboard")
    yield from wants(dashboard["DashboardName"] == stack.parameters["Deployment"], "another name")
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    places = [(one["x"], one["y"]) for one in widgets]
    yield from wants(len(set(places)) == len(places) >= 6, "widgets lie on one another")
    functions, ours = set(), _ours(stack)
    for widget in widgets:
        said = widget["properties"]
        yield from states("a widget", said, "title", "region", "period", "metrics")
        for space, name, *rest in said["metrics"]:
            pairs = [one for one in rest if not isinstance(one, dict)]
            dimensions = dict(zip(pairs[::2], pairs[1::2], strict=True))
            known = METRICS.get((space, name))
            yield from wants(known == tuple(sorted(dimensions)), f"{said['title']}: no data under {space} {name}")
            yield from wants(all(value in ours[key] for key, value in dimensions.items()), f"{said['title']}: not ours")
            if space == "AWS/Lambda":
                functions.add(dimensions["FunctionName"])
    yield from wants(functions == ours["FunctionName"], "a function's errors are not shown")
