"""What CloudFormation, cfn-lint and moto take, and the cloud then refuses or does wrongly: a rule notices each."""

import copy
from typing import Any

import pytest

from tests.infrastructure import rulebook
from tests.infrastructure.schedule import is_legal
from tests.infrastructure.stack import read

TEMPLATE = read()
ZERO, CANARY, REAL_TIME = "async, to zero", "real-time, canary, tokens", "real-time, canary, tokens"
VARIANT = "EndpointConfig.Properties.ProductionVariants.0"
SHIFT = "Endpoint.Properties.DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration"
VARIABLES = "ApiFunction.Properties.Environment.Variables"
STATEMENTS = "ApiRole.Properties.Policies.0.PolicyDocument.Statement"
DELETE = object()


def _action(**changed: Any) -> dict[str, Any]:
    limits = {"MinCapacity": 0, "MaxCapacity": 1}
    said = {"ScheduledActionName": "a", "Schedule": "cron(0 9 ? * MON-FRI *)", "Timezone": "Asia/Shanghai"}
    return said | {"ScalableTargetAction": limits} | changed


# What is wrong: (configuration, path of a resource, value, the rule that says so).
WRONG: dict[str, tuple[str, str, Any, str]] = {
    "a cron that is none": (ZERO, "ScaleTick.Properties.ScheduleExpression", "cron(banana)", "events_are_on"),
    "a cron of five fields": (ZERO, "ScaleTick.Properties.ScheduleExpression", "cron(0 9 * * *)", "events_are_on"),
    "a rate of one, plural": (ZERO, "OverdueTick.Properties.ScheduleExpression", "rate(1 minutes)", "events_are_on"),
    "a scheduled action at banana": (
        ZERO,
        "Scaling.Properties.ScheduledActions",
        [_action(Schedule="cron(banana)")],
        "limits_are_in_order",
    ),
    "a zone that is none": (
        ZERO,
        "Scaling.Properties.ScheduledActions",
        [_action(Timezone="Asia/Atlantis")],
        "limits_are_in_order",
    ),
    "an action's min above its max": (
        ZERO,
        "Scaling.Properties.ScheduledActions",
        [_action(ScalableTargetAction={"MinCapacity": 2, "MaxCapacity": 1})],
        "limits_are_in_order",
    ),
    "an action that sets one limit": (
        ZERO,
        "Scaling.Properties.ScheduledActions",
        [_action(ScalableTargetAction={"MinCapacity": 2})],
        "limits_are_in_order",
    ),
    "201 actions": (ZERO, "Scaling.Properties.ScheduledActions", [_action()] * 201, "limits_are_in_order"),
    "min above max": (ZERO, "Scaling.Properties.MinCapacity", 9, "limits_are_in_order"),
    "a real-time endpoint at zero": (REAL_TIME, "Scaling.Properties.MinCapacity", 0, "limits_are_in_order"),
    "a colon in a route": (ZERO, "V1Route.Properties.RouteKey", "ANY /v1/models/{name}:predict", "routes_are_legal"),
    "a greedy variable amid a route": (ZERO, "V1Route.Properties.RouteKey", "ANY /v1/{a+}/b", "routes_are_legal"),
    "a route that the code lacks": (ZERO, "DocsRoute.Properties.RouteKey", "ANY /help", "every_path_of_the_code"),
    "a canary on one instance": (CANARY, f"{VARIANT}.InitialInstanceCount", 1, "changes_are_rolled_out"),
    "a canary of nine tenths": (CANARY, f"{SHIFT}.CanarySize.Fn::If.1.Value", 90, "changes_are_rolled_out"),
    "a role for every bucket": (ZERO, f"{STATEMENTS}.4.Resource", "*", "every_resource_is_named"),
    "a role for every call": (ZERO, f"{STATEMENTS}.4.Action", "s3:*", "every_resource_is_named"),
    "a call that its role lacks": (ZERO, f"{STATEMENTS}.2.Action", "dynamodb:GetItem", "roles_cover_what_is_called"),
    "a call that nothing makes": (ZERO, f"{STATEMENTS}.6.Action", "s3:GetObjectAcl", "roles_allow_nothing_else"),
    "a variable that nobody reads": (ZERO, f"{VARIABLES}.DARKROOM_ACESS", "jwt", "functions_are_told"),
    "a variable that is missing": (ZERO, f"{VARIABLES}.DARKROOM_ACCESS", DELETE, "functions_are_told"),
    "alarms with a key CloudWatch may not use": (
        ZERO,
        "Alarms.Properties.KmsMasterKeyId",
        "alias/aws/sns",
        "alarms_arrive",
    ),
    "an alarm on a metric without data": (
        ZERO,
        "BacklogAge.Properties.Metrics.1.MetricStat.Metric.MetricName",
        "OldestRequest",
        "alarms_watch_metrics",
    ),
    "an alarm that never rings": (ZERO, "EngineIntegrity.Properties.Threshold", 1000, "alarms_separate"),
    "a scaling policy of another owner": (
        ZERO,
        "FollowDemand",
        {"Type": "AWS::ApplicationAutoScaling::ScalingPolicy", "Properties": {"PolicyName": "darkroom-crayon-demand"}},
        "scaling_policies_have_one_owner",
    ),
    "who registers a target may not be tried": (
        ZERO,
        "ScaleRole.Properties.Policies.0.PolicyDocument.Statement.5.Resource",
        "arn:aws:cloudwatch:us-east-1:123456789012:alarm:darkroom.darkroom-crayon.*",
        "roles_cover_what_is_called",
    ),
    "an alarm that rings after the bake": (ZERO, "Slow.Properties.EvaluationPeriods", 5, "alarms_ring_while"),
    "an age that is only known afterwards": (
        ZERO,
        "BacklogAge.Properties.Metrics.1.MetricStat.Metric.MetricName",
        "TimeInBacklog",
        "alarms_watch_metrics",
    ),
    "a change that resets the fleet": (
        ZERO,
        "Endpoint.Properties.RetainAllVariantProperties",
        False,
        "changes_are_rolled_out",
    ),
    "lines that Lambda drops": (
        ZERO,
        "ScaleFunction.Properties.LoggingConfig.ApplicationLogLevel",
        "ERROR",
        "functions_can_be_followed",
    ),
    "an ARN of one partition": (
        ZERO,
        "ApiMayCall.Properties.SourceArn",
        "arn:aws:execute-api:us-east-1:123456789012:x/*",
        "every_region_is_named",
    ),
    "more callers who wait than leave room": (
        ZERO,
        "JobEventsFunction.Properties.ReservedConcurrentExecutions",
        5,
        "waiting_leaves_room",
    ),
    "a driver on a machine without GPU": (
        "async, always one, without GPU",
        f"{VARIANT}.InferenceAmiVersion",
        "al2023-ami-sagemaker-inference-gpu-4-1",
        "instances_start",
    ),
}


def _changed(path: str, value: Any) -> dict[str, Any]:
    template = copy.deepcopy(TEMPLATE)
    place: Any = template["Resources"]
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    return template


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_template_is_noticed(wrong: str) -> None:
    configuration, path, value, rule = WRONG[wrong]
    found = list(rulebook.violations(_changed(path, value), configuration))
    assert [said for said in found if said.startswith(rule) and "cannot be checked" not in said], found


@pytest.mark.parametrize(
    "schedule",
    [
        "rate(1 minute)",
        "rate(5 minutes)",
        "at(2026-11-21T09:00:00)",
        "cron(0 9 ? * MON-FRI *)",
        "cron(*/15 8-17 1,15 * ? 2026)",
        "cron(0 0 L * ? *)",
        "cron(0 8 ? * 2#1 *)",
    ],
)
def test_a_legal_schedule(schedule: str) -> None:
    assert is_legal(schedule)


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "rate(0 minutes)",
        "rate(2 minute)",
        "at(2026-02-30T09:00:00)",
        "cron(0 9 * * MON *)",
        "cron(60 9 ? * * *)",
        "cron(0 24 ? * * *)",
        "cron(0 9 ? 13 MON *)",
        "cron(0 9 ? * MUN *)",
        "cron(0 17-9 ? * MON *)",
        "0 9 ? * MON *",
    ],
)
def test_an_illegal_schedule(schedule: str) -> None:
    assert not is_legal(schedule)
