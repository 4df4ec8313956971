"""Reconciling against moto's Application Auto Scaling and CloudWatch; what moto cannot say, a Stubber says."""

import socket
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config
from botocore.stub import ANY, Stubber
from moto import mock_aws

from darkroom.scaling.application_autoscaling import ScalableEndpoint, compile_policy
from darkroom.scaling.document import parse_policy
from darkroom.scaling.reconcile import Fenced, reconcile, remove
from darkroom.scaling.timeline import timeline
from tests.fakes.application_autoscaling import strict

NOW = datetime(2026, 11, 16, 3, 0, tzinfo=UTC)
ENDPOINT = ScalableEndpoint("crayon", gpus=1, cores=4)
DOCUMENT = {
    "min": 0,
    "max": 4,
    "timezone": "Asia/Shanghai",
    "windows": [{"name": "w", "days": "mon-fri", "hours": "09:00-17:00", "min": 2, "exceptions": ["2026-12-25"]}],
    "metrics": {"queue_depth": 4, "gpu": 70},
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)

    def refuse(*arguments):
        raise AssertionError("a test may not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def aws():
    with mock_aws(), strict():
        sagemaker = boto3.client("sagemaker")
        sagemaker.create_model(
            ModelName="crayon",
            ExecutionRoleArn="arn:aws:iam::123456789012:role/r",
            PrimaryContainer={"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/runtime:1"},
        )
        for name in ("crayon", "other"):
            sagemaker.create_endpoint_config(
                EndpointConfigName=name,
                ProductionVariants=[
                    {
                        "VariantName": "AllTraffic",
                        "ModelName": "crayon",
                        "InitialInstanceCount": 1,
                        "InstanceType": "ml.g4dn.xlarge",
                    }
                ],
            )
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        yield boto3.client("application-autoscaling"), boto3.client("cloudwatch")


def desired(document=DOCUMENT, now=NOW, endpoint=ENDPOINT):
    policy = parse_policy(document)
    return compile_policy(policy, timeline(policy, now, now + timedelta(days=366)), endpoint)


def apply(aws, wanted, *, fence=lambda: True, now=NOW, applied=None):
    return reconcile(wanted, *aws, fence=fence, now=lambda: now, applied=applied)


def stored(aws):
    scaling, cloudwatch = aws
    target = ENDPOINT.target
    return (
        scaling.describe_scheduled_actions(**target)["ScheduledActions"],
        scaling.describe_scaling_policies(**target)["ScalingPolicies"],
        [a for a in cloudwatch.describe_alarms()["MetricAlarms"] if a["AlarmName"].startswith("darkroom.")],
    )


def test_the_first_time_all_is_created_and_the_second_time_nothing_happens(aws):
    wanted = desired()
    first = apply(aws, wanted)
    assert sorted(first.created) == sorted(
        [
            "endpoint/crayon/variant/AllTraffic",
            *wanted.actions,
            *wanted.policies,
            *(f"alarm {name}" for name in wanted.alarms),
        ]
    )
    assert not first.drift
    second = apply(aws, desired(), applied=wanted.fingerprint())
    assert second.unchanged
    assert not second.drift
    actions, policies, alarms = stored(aws)
    assert {action["ScheduledActionName"] for action in actions} == set(wanted.actions)
    wake = next(policy for policy in policies if policy["PolicyName"].endswith("wake"))
    assert alarms[0]["AlarmActions"] == [wake["PolicyARN"]]


def test_the_target_has_the_limits_in_force(aws):
    apply(aws, desired())
    scaling = aws[0]

    def limits():
        target = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"][0]
        return target["MinCapacity"], target["MaxCapacity"]

    assert limits() == (2, 4)  # 11:00 in Shanghai
    apply(aws, desired(), now=NOW + timedelta(hours=8))
    assert limits() == (0, 4)


def test_a_limit_that_is_about_to_change_is_left_to_its_action(aws):
    apply(aws, desired())
    aws[0].register_scalable_target(**ENDPOINT.target, MinCapacity=1, MaxCapacity=1)
    closing = datetime(2026, 11, 16, 9, 0, tzinfo=UTC)
    assert apply(aws, desired(), now=closing - timedelta(seconds=3)).unchanged
    assert apply(aws, desired(), now=closing).updated == ["endpoint/crayon/variant/AllTraffic"]


def test_a_new_policy_replaces_what_is_ours_and_nothing_else(aws):
    scaling, cloudwatch = aws
    old = desired()
    apply(aws, old)
    theirs = {"MinCapacity": 1, "MaxCapacity": 1}
    scaling.put_scheduled_action(
        **ENDPOINT.target, ScheduledActionName="by-hand", Schedule="cron(0 3 ? * * *)", ScalableTargetAction=theirs
    )
    alarm = {"MetricName": "m", "Namespace": "n", "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold"}
    cloudwatch.put_metric_alarm(
        AlarmName="darkroom.crayon2.wake", EvaluationPeriods=1, Period=60, Statistic="Sum", **alarm
    )
    new = desired({"min": 1, "max": 2, "metrics": {"cpu": 50}})
    report = apply(aws, new, applied=old.fingerprint())
    assert not report.drift
    assert set(report.deleted) == {*old.actions, *old.policies, "alarm darkroom.crayon.wake"}
    actions, policies, alarms = stored(aws)
    assert [action["ScheduledActionName"] for action in actions] == ["by-hand"]
    assert [policy["PolicyName"] for policy in policies] == ["darkroom.crayon.cpu"]
    assert [alarm["AlarmName"] for alarm in alarms] == ["darkroom.crayon2.wake"]


def test_a_metric_that_somebody_else_tracks_is_taken_over(aws):
    """As of a stack of an earlier release: Application Auto Scaling takes one policy for a metric."""
    wanted = desired()
    apply(aws, desired({"min": 0, "max": 2, "metrics": {"cpu": 50}}))
    backlog = wanted.policies["darkroom.crayon.queue_depth"]
    other = desired({"min": 0, "max": 2, "metrics": {"memory": 50}}).policies["darkroom.crayon.memory"]
    aws[0].put_scaling_policy(**ENDPOINT.target, PolicyName="darkroom-crayon-demand", **backlog)
    aws[0].put_scaling_policy(**ENDPOINT.target, PolicyName="by-hand", **other)
    report = apply(aws, wanted)
    assert "darkroom-crayon-demand" in report.deleted
    assert {one["PolicyName"] for one in stored(aws)[1]} == {*wanted.policies, "by-hand"}
    assert apply(aws, wanted, applied=wanted.fingerprint()).unchanged


def test_limits_that_are_no_limits_are_refused_by_the_service(aws):
    with pytest.raises(aws[0].exceptions.ValidationException, match="less than minimum"):
        aws[0].register_scalable_target(**ENDPOINT.target, MinCapacity=2, MaxCapacity=1)
    with pytest.raises(aws[0].exceptions.ObjectNotFoundException, match="No scalable target"):
        aws[0].put_scaling_policy(**ENDPOINT.target, PolicyName="p", **desired().policies["darkroom.crayon.gpu"])


def test_drift_made_by_hand_is_repaired_and_reported(aws):
    scaling, cloudwatch = aws
    wanted = desired()
    apply(aws, wanted)
    changed, gone = list(wanted.actions)[:2]
    scaling.put_scheduled_action(
        **ENDPOINT.target,
        ScheduledActionName=changed,
        Schedule="cron(0 4 ? * * *)",
        ScalableTargetAction={"MinCapacity": 9, "MaxCapacity": 9},
    )
    scaling.delete_scheduled_action(**ENDPOINT.target, ScheduledActionName=gone)
    cloudwatch.delete_alarms(AlarmNames=list(wanted.alarms))
    report = apply(aws, wanted, applied=wanted.fingerprint())
    assert report.drift
    assert report.updated == [changed]
    assert sorted(report.created) == sorted([gone, *(f"alarm {name}" for name in wanted.alarms)])
    assert apply(aws, wanted, applied=wanted.fingerprint()).unchanged


def test_a_stale_reconciler_writes_nothing_more(aws):
    """Row 82: one pauses in the middle, another takes over, the first wakes up."""
    holder = {"generation": 1, "writes": 0}

    def first_fence():
        holder["writes"] += 1
        if holder["writes"] == 3:  # here it was paused, and generation 2 took the lease
            holder["generation"] = 2
        return holder["generation"] == 1

    stale, fresh = desired({**DOCUMENT, "max": 3}), desired()
    with pytest.raises(Fenced):
        apply(aws, stale, fence=first_fence)
    apply(aws, fresh, fence=lambda: holder["generation"] == 2)
    before = stored(aws)
    with pytest.raises(Fenced):
        apply(aws, stale, fence=first_fence)
    assert stored(aws) == before
    assert {action["ScheduledActionName"] for action in before[0]} == set(fresh.actions)


def test_removing_leaves_nothing_of_ours(aws):
    wanted = desired()
    apply(aws, wanted)
    remove(wanted, *aws, fence=lambda: True)
    assert stored(aws) == ([], [], [])
    assert aws[0].describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert remove(wanted, *aws, fence=lambda: True).unchanged


def test_other_forms_of_the_same_answer_are_not_drift():
    """The service answers in pages, whole numbers as floats, times in its own zone, and names fields of its own."""
    wanted = desired()
    scaling, cloudwatch = (
        boto3.client(name, region_name="us-east-1", config=Config(retries={"max_attempts": 0}))
        for name in ("application-autoscaling", "cloudwatch")
    )
    target = ENDPOINT.target
    made = {"CreationTime": NOW, **target}
    elsewhere = NOW.astimezone().tzinfo
    actions = [
        {"ScheduledActionName": n, "ScheduledActionARN": f"arn:{n}", **made, **a}
        | {k: a[k].astimezone(elsewhere) for k in ("StartTime", "EndTime") if k in a}
        for n, a in wanted.actions.items()
    ]
    policies = [
        {"PolicyName": n, "PolicyARN": f"arn:{n}", "Alarms": [], **made, **p} for n, p in wanted.policies.items()
    ]
    alarms = [{"AlarmName": n, "StateValue": "OK", "AlarmActions": [f"arn:{n}"], **a} for n, a in wanted.alarms.items()]
    with Stubber(scaling) as stub, Stubber(cloudwatch) as watch:
        limits = {"MinCapacity": 2, "MaxCapacity": 4, "RoleARN": "arn:role", **made}
        stub.add_response("describe_scalable_targets", {"ScalableTargets": [limits]})
        stub.add_response("describe_scheduled_actions", {"ScheduledActions": actions[:1], "NextToken": "2"})
        stub.add_response("describe_scheduled_actions", {"ScheduledActions": actions[1:]}, {**target, "NextToken": "2"})
        stub.add_response("describe_scaling_policies", {"ScalingPolicies": policies})
        stub.add_response("describe_scaling_policies", {"ScalingPolicies": policies})
        watch.add_response("describe_alarms", {"MetricAlarms": alarms}, {"AlarmNamePrefix": ANY})
        report = reconcile(
            wanted, scaling, cloudwatch, fence=lambda: True, now=lambda: NOW, applied=wanted.fingerprint()
        )
    assert report.unchanged
