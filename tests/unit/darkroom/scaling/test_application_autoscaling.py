"""What Application Auto Scaling is told: each call checked by botocore, each rule that no linter knows by hand."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from darkroom.errors import InvalidPolicy
from darkroom.scaling.application_autoscaling import (
    MOST_ACTIONS,
    ScalableEndpoint,
    compile_policy,
    described,
    refuse_unfollowable,
)
from darkroom.scaling.document import parse_policy, read_policy_file
from darkroom.scaling.policy import METRIC_NAMES
from darkroom.scaling.timeline import timeline

START = datetime(2026, 11, 16, tzinfo=UTC)
ENDPOINT = ScalableEndpoint("crayon", gpus=2, cores=8)
REAL_TIME = ScalableEndpoint("crayon", asynchronous=False, gpus=2, cores=8)
# What each kind of endpoint publishes: "Monitoring Amazon SageMaker AI with Amazon CloudWatch" and "Alarms and logs for
# tracking metrics from asynchronous endpoints" (it calls its list exhaustive) in the SageMaker AI Developer Guide.
UTILISATION = {"CPUUtilization", "MemoryUtilization", "GPUUtilization", "GPUMemoryUtilization"}
PUBLISHED = {
    True: {"ModelLatency", "ApproximateBacklogSizePerInstance", "HasBacklogWithoutCapacity"} | UTILISATION,
    False: {
        *("ModelLatency", "SageMakerVariantInvocationsPerInstance"),
        "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    }
    | UTILISATION,
}


def compiled(document, endpoint=ENDPOINT, days=366):
    policy = document if not isinstance(document, dict) else parse_policy({"min": 0, "max": 4, **document})
    return compile_policy(policy, timeline(policy, START, START + timedelta(days=days)), endpoint)


def check_calls(desired):
    """botocore's own check of names and types, without a call."""
    session = get_session()
    scaling = session.get_service_model("application-autoscaling")
    cloudwatch = session.get_service_model("cloudwatch")
    target = desired.endpoint.target
    calls = [
        (scaling, "PutScheduledAction", target | {"ScheduledActionName": n} | a) for n, a in desired.actions.items()
    ]
    calls += [(scaling, "PutScalingPolicy", target | {"PolicyName": n} | p) for n, p in desired.policies.items()]
    calls += [(cloudwatch, "PutMetricAlarm", {"AlarmName": n} | a) for n, a in desired.alarms.items()]
    for service, operation, arguments in calls:
        report = ParamValidator().validate(arguments, service.operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()


def test_the_seeds_example_is_two_daily_actions(request):
    desired = compiled(read_policy_file(request.config.rootpath / "examples" / "seeds.yaml"), REAL_TIME)
    said = {action["Schedule"]: action for action in desired.actions.values()}
    assert said == {
        "cron(0 9 ? * * *)": {
            "Schedule": "cron(0 9 ? * * *)",
            "Timezone": "Asia/Shanghai",
            "ScalableTargetAction": {"MinCapacity": 2, "MaxCapacity": 4},
        },
        "cron(0 16 ? * * *)": {
            "Schedule": "cron(0 16 ? * * *)",
            "Timezone": "Asia/Shanghai",
            "ScalableTargetAction": {"MinCapacity": 1, "MaxCapacity": 4},
        },
    }
    check_calls(desired)
    tracking = {
        name.rpartition(".")[2]: policy["TargetTrackingScalingPolicyConfiguration"]
        for name, policy in desired.policies.items()
    }
    assert tracking["gpu"]["TargetValue"] == 100.0  # 50 % of each of two GPUs
    assert tracking["cpu"]["TargetValue"] == 400.0  # of each of eight cores
    assert tracking["requests_per_second"]["TargetValue"] == 3000.0  # invocations are counted by the minute
    assert not desired.alarms


def metrics(desired):
    """Every metric that is followed or watched."""
    for policy in desired.policies.values():
        said = policy.get("TargetTrackingScalingPolicyConfiguration", {})
        if predefined := said.get("PredefinedMetricSpecification"):
            yield predefined["PredefinedMetricType"]
        elif customized := said.get("CustomizedMetricSpecification"):
            yield customized.get("MetricName") or customized["Metrics"][0]["MetricStat"]["Metric"]["MetricName"]
    yield from (alarm["MetricName"] for alarm in desired.alarms.values())


@pytest.mark.parametrize("endpoint", [ENDPOINT, REAL_TIME])
@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_what_is_followed_is_published(metric, endpoint):
    """A metric without data never scales out, and keeps every other from scaling in."""
    document = {"min": 1, "metrics": {metric: 50}}
    if metric == "requests_per_second" and endpoint.asynchronous:
        with pytest.raises(InvalidPolicy, match="queue_depth") as refused:
            compiled(document, endpoint)
        assert refused.value.field == "/metrics/requests_per_second"
    else:
        assert set(metrics(compiled(document, endpoint))) <= PUBLISHED[endpoint.asynchronous]


def test_all_examples_compile_to_valid_calls(request):
    for path in sorted((request.config.rootpath / "examples").glob("*.[jy]*")):
        desired = compiled(read_policy_file(path), REAL_TIME if path.name == "seeds.yaml" else ENDPOINT)
        assert set(metrics(desired)) <= PUBLISHED[path.name != "seeds.yaml"]
        check_calls(desired)
        for name, action in desired.actions.items():
            assert re.fullmatch(r"darkroom\.crayon\.[a-z0-9-]+", name)
            assert set(action["ScalableTargetAction"]) == {"MinCapacity", "MaxCapacity"}
            assert re.fullmatch(r"at\(\S+\)|cron\(\d+ [\d,]+ \? \* (\*|[A-Z,]+) \*\)", action["Schedule"])


def test_the_seeds_example_says_what_an_asynchronous_endpoint_follows(request):
    seeds, other = (
        read_policy_file(request.config.rootpath / "examples" / name)
        for name in ("seeds.yaml", "seeds-asynchronous.yaml")
    )
    with pytest.raises(InvalidPolicy, match="queue_depth"):
        compiled(seeds)
    assert compiled(other).actions == compiled(seeds, REAL_TIME).actions


def test_a_holiday_splits_a_recurring_action_at_its_firings():
    window = {"name": "w", "days": "mon-fri", "hours": "09:00-17:00", "min": 2, "exceptions": ["2026-12-25"]}
    desired = compiled({"min": 1, "windows": [window]})
    check_calls(desired)
    bounds = sorted(
        (
            action["Schedule"],
            f"{action.get('StartTime', START):%m-%d %H:%M}",
            f"{action.get('EndTime', START):%m-%d %H:%M}",
        )
        for action in desired.actions.values()
    )
    assert ("cron(0 9 ? * FRI *)", "11-16 00:00", "12-18 09:01") in bounds
    assert ("cron(0 9 ? * FRI *)", "01-01 09:00", "11-16 00:00") in bounds
    assert ("cron(0 9 ? * MON,TUE,WED,THU *)", "11-16 00:00", "11-16 00:00") in bounds
    # at 17:00 on the holiday min 1 holds anyway: that action needs no split
    assert ("cron(0 17 ? * MON,TUE,WED,THU,FRI *)", "11-16 00:00", "11-16 00:00") in bounds


def test_a_run_once_shutdown_is_one_action():
    desired = compiled({"min": 1, "stop_at": "2026-12-24T18:00", "timezone": "Asia/Shanghai"})
    (action,) = desired.actions.values()
    assert action == {
        "Schedule": "at(2026-12-24T10:00:00)",
        "Timezone": "UTC",
        "ScalableTargetAction": {"MinCapacity": 0, "MaxCapacity": 0},
    }


def test_an_asynchronous_endpoint_at_zero_is_woken_by_an_alarm():
    desired = compiled({"min": 0, "scale_to_zero_after": "15m"})
    check_calls(desired)
    (alarm,) = desired.alarms.values()
    assert (alarm["MetricName"], alarm["Threshold"]) == ("HasBacklogWithoutCapacity", 1.0)
    wake = desired.policies["darkroom.crayon.wake"]["StepScalingPolicyConfiguration"]
    assert wake["StepAdjustments"] == [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}]
    backlog = desired.policies["darkroom.crayon.queue_depth"]["TargetTrackingScalingPolicyConfiguration"]
    assert backlog["ScaleInCooldown"] == 900
    assert backlog["CustomizedMetricSpecification"]["MetricName"] == "ApproximateBacklogSizePerInstance"


def test_a_real_time_endpoint_is_never_put_at_zero():
    with pytest.raises(InvalidPolicy, match="real-time"):
        compiled({"min": 0}, ScalableEndpoint("crayon", asynchronous=False))
    desired = compiled({"min": 1}, ScalableEndpoint("crayon", asynchronous=False))
    check_calls(desired)
    assert "wake" not in "".join(desired.policies)


def test_whether_aws_can_follow_a_policy_is_known_before_it_is_stored():
    refuse_unfollowable(parse_policy({"min": 0, "max": 2}), START, asynchronous=True)
    for document, asynchronous, field in (
        ({"min": 0, "max": 2}, False, "/min"),
        ({"min": 1, "max": 2, "metrics": {"requests_per_second": 5}}, True, "/metrics/requests_per_second"),
    ):
        with pytest.raises(InvalidPolicy) as refused:
            refuse_unfollowable(parse_policy(document), START, asynchronous=asynchronous)
        assert refused.value.field == field


def test_a_percentile_is_asked_for_in_metric_math():
    desired = compiled({"metrics": {"latency": {"target": 20, "statistic": "p95"}}})
    check_calls(desired)
    tracking = desired.policies["darkroom.crayon.latency"]["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 20e6  # microseconds
    assert tracking["CustomizedMetricSpecification"]["Metrics"][0]["MetricStat"]["Stat"] == "p95"


def test_too_many_actions_are_a_clear_error():
    with pytest.raises(InvalidPolicy, match=f"takes {MOST_ACTIONS}") as refused:
        compiled({"windows": [{"name": "w", "cron": "0,20,40 */5 2-28/2 * *", "duration": "10m", "min": 1}]})
    assert refused.value.field == "/windows"


def test_often_repeated_hours_are_regrouped():
    desired = compiled({"windows": [{"name": "w", "cron": "0 * * * *", "duration": "20m", "min": 1}]})
    assert {action["Schedule"].split()[1] for action in desired.actions.values()} == {",".join(map(str, range(24)))}


def test_the_fingerprint_is_of_what_is_asked_for_and_does_not_drift_with_time():
    policy = parse_policy({"min": 0, "max": 4, "timezone": "Europe/Berlin", "windows": [
        {"name": "w", "days": "mon-fri", "hours": "09:00-17:00", "min": 2}]})  # fmt: skip
    prints = set()
    for days in range(8):
        begin = START + timedelta(days=days, minutes=7 * days)
        desired = compile_policy(policy, timeline(policy, begin, begin + timedelta(days=366)), ENDPOINT)
        prints.add(desired.fingerprint())
    assert len(prints) == 1


def test_it_can_be_described_as_json():
    said = described(compiled({"min": 1}), START)
    assert said["scalable_target"]["MinCapacity"] == 1
    assert list(said["scaling_policies"]) == ["darkroom.crayon.queue_depth"]
