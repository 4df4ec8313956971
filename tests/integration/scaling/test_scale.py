"""The scheduler's tick from stored policies to moto's Application Auto Scaling and CloudWatch, without a network."""

import socket
from datetime import UTC, datetime

import boto3
import pytest
from moto import mock_aws

from darkroom.endpoints import Endpoints
from darkroom.scaling.application_autoscaling import ScalableEndpoint
from darkroom.scaling.storage.sql import SqlPolicyStore
from darkroom.settings import Settings
from functions import scale
from tests.fakes.application_autoscaling import strict

NOW = datetime(2026, 11, 16, 3, 0, tzinfo=UTC)
TARGET = ScalableEndpoint("crayon").target
POLICY = {
    "min": 0,
    "max": 4,
    "timezone": "Asia/Shanghai",
    "windows": [{"name": "w", "days": "mon-fri", "hours": "09:00-17:00", "min": 2}],
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "POWERTOOLS_METRICS_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)

    def refuse(*arguments):
        raise AssertionError("a test may not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def aws():
    with mock_aws(), strict():
        sagemaker = boto3.client("sagemaker")
        image = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/runtime:1"}
        sagemaker.create_model(
            ModelName="crayon", ExecutionRoleArn="arn:aws:iam::123456789012:role/r", PrimaryContainer=image
        )
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": "crayon",
            "InitialInstanceCount": 1,
            "InstanceType": "ml.g4dn.xlarge",
        }
        for name in ("crayon", "other"):
            sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        yield boto3.client("application-autoscaling"), boto3.client("cloudwatch")


@pytest.fixture
def store(tmp_path):
    opened = SqlPolicyStore(f"sqlite:///{tmp_path / 'jobs.db'}")
    yield opened
    opened.close()


def tick(store, aws):
    return scale.Tick(store, *aws, now=lambda: NOW).run()


def actions(aws):
    return aws[0].describe_scheduled_actions(**TARGET)["ScheduledActions"]


def test_a_stored_policy_is_brought_about_once(store, aws):
    assert tick(store, aws) == {}
    store.put("crayon", POLICY, by="a")
    first = tick(store, aws)["crayon"]
    assert (first["outcome"], first["drift"]) == ("reconciled", False)
    assert "endpoint/crayon/variant/AllTraffic" in first["created"]
    assert actions(aws)
    second = tick(store, aws)["crayon"]
    assert second == {"outcome": "reconciled", "created": [], "updated": [], "deleted": [], "drift": False}


def test_a_new_policy_replaces_the_old_one(store, aws):
    store.put("crayon", POLICY, by="a")
    tick(store, aws)
    store.put("crayon", {"min": 1, "max": 2}, by="a")
    said = tick(store, aws)["crayon"]
    assert said["deleted"]
    assert not said["drift"]
    assert actions(aws) == []


def test_drift_made_by_hand_is_repaired_and_told(store, aws):
    store.put("crayon", POLICY, by="a")
    tick(store, aws)
    gone = actions(aws)[0]["ScheduledActionName"]
    aws[0].delete_scheduled_action(**TARGET, ScheduledActionName=gone)
    said = tick(store, aws)["crayon"]
    assert (said["created"], said["drift"]) == ([gone], True)


def test_a_deleted_policy_leaves_nothing_behind(store, aws):
    store.put("crayon", POLICY, by="a")
    tick(store, aws)
    store.delete("crayon", by="a")
    assert tick(store, aws)["crayon"]["outcome"] == "removed"
    assert aws[0].describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert aws[1].describe_alarms()["MetricAlarms"] == []
    assert tick(store, aws) == {}


DEPLOYED = Settings(endpoints="crayon=crayon", instances="0-3", backlog_per_instance=5)


def registered(aws, least=0, most=3):
    """What the template makes."""
    aws[0].register_scalable_target(**TARGET, MinCapacity=least, MaxCapacity=most)


def usual(store, aws):
    """A tick of a deployment whose template gives limits and a backlog, and registers the target."""
    given = {"now": lambda: NOW, "usual": scale.usual_policy(DEPLOYED), "models": ("crayon",), "registers": False}
    return scale.Tick(store, *aws, **given).run()


def tracked(aws):
    policies = aws[0].describe_scaling_policies(**TARGET)["ScalingPolicies"]
    return {
        one["PolicyName"]: one["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
        for one in policies
        if one["PolicyType"] == "TargetTrackingScaling"
    }


def limits(aws):
    (target,) = aws[0].describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    return target["MinCapacity"], target["MaxCapacity"]


def test_without_a_stored_policy_the_deployments_own_is_brought_about_once(store, aws):
    """By the same owner and under the same names as a stored one, so that neither is ever in the other's way."""
    registered(aws)
    first = usual(store, aws)["crayon"]
    assert first["outcome"] == "reconciled"
    assert (limits(aws), tracked(aws)) == ((0, 3), {"darkroom.crayon.queue_depth": 5.0})
    assert [one["AlarmName"] for one in aws[1].describe_alarms()["MetricAlarms"]] == ["darkroom.crayon.wake"]
    nothing = {"outcome": "reconciled", "created": [], "updated": [], "deleted": [], "drift": False}
    assert usual(store, aws)["crayon"] == nothing


def test_the_default_policy_is_applied_and_again_changes_nothing(store, aws):
    """`{"min": 0, "max": 2}`, the smallest there is, over what the deployment has by itself."""
    registered(aws)
    usual(store, aws)
    store.put("crayon", {"min": 0, "max": 2}, by="a")
    assert usual(store, aws)["crayon"]["outcome"] == "reconciled"
    assert (limits(aws), tracked(aws)) == ((0, 2), {"darkroom.crayon.queue_depth": 4.0})
    nothing = {"outcome": "reconciled", "created": [], "updated": [], "deleted": [], "drift": False}
    assert usual(store, aws)["crayon"] == nothing
    store.put("crayon", {"min": 0, "max": 2}, by="a")
    assert usual(store, aws)["crayon"] == nothing


def test_a_policy_by_another_metric_leaves_nothing_of_the_deployments_own(store, aws):
    registered(aws)
    usual(store, aws)
    store.put("crayon", {"min": 1, "max": 2, "metrics": {"gpu": 60}}, by="a")
    assert usual(store, aws)["crayon"]["outcome"] == "reconciled"
    assert tracked(aws) == {"darkroom.crayon.gpu": 60.0}
    assert aws[1].describe_alarms()["MetricAlarms"] == []


def test_the_deployments_own_policy_outlives_a_stored_one(store, aws):
    registered(aws)
    store.put("crayon", POLICY, by="a")
    usual(store, aws)
    store.delete("crayon", by="a")
    said = usual(store, aws)["crayon"]
    assert said["outcome"] == "reconciled"
    assert (limits(aws), tracked(aws)) == ((0, 3), {"darkroom.crayon.queue_depth": 5.0})
    assert actions(aws) == []
    gone = aws[0].delete_scaling_policy(**TARGET, PolicyName="darkroom.crayon.queue_depth")
    assert gone
    repaired = usual(store, aws)["crayon"]
    assert (repaired["created"], repaired["drift"]) == (["darkroom.crayon.queue_depth"], True)


def test_a_policy_that_is_stored_meanwhile_is_not_overwritten(store, aws):
    """The deployment's own policy has no hold: before each write it looks whether one is stored by now."""
    registered(aws)
    scaling, cloudwatch = aws

    class Paused:
        woken = False

        def __getattr__(self, name):
            if name == "describe_scaling_policies" and not self.woken:
                self.woken = True
                store.put("crayon", {"min": 1, "max": 2}, by="b")
                assert usual(store, aws)["crayon"]["outcome"] == "reconciled"
            return getattr(scaling, name)

    assert usual(store, (Paused(), cloudwatch))["crayon"]["outcome"] == "overtaken"
    assert limits(aws) == (1, 2)


def test_the_stack_registers_the_target_and_nobody_else(store, aws):
    """Without it autoscaling is off, or has not begun: another instance type could not be deployed where a tick
    registered the target meanwhile, and CloudFormation could not make its own."""
    assert usual(store, aws) == {"crayon": {"outcome": "absent"}}
    store.put("crayon", POLICY, by="a")
    assert usual(store, aws) == {"crayon": {"outcome": "absent"}}
    assert aws[0].describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    registered(aws)
    assert usual(store, aws)["crayon"]["outcome"] == "reconciled"
    store.delete("crayon", by="a")
    aws[0].deregister_scalable_target(**TARGET)
    assert usual(store, aws) == {"crayon": {"outcome": "absent"}}


def test_an_endpoint_that_is_not_there_yet_is_no_failure(store, aws):
    known = scale.deployed(Endpoints({"m": "nothing"}), boto3.client("sagemaker"))
    given = {"now": lambda: NOW, "endpoint": known, "usual": scale.usual_policy(DEPLOYED), "models": ("m",)}
    assert scale.Tick(store, *aws, **given).run() == {"m": {"outcome": "absent"}}
    store.put("m", {"min": 1, "max": 2}, by="a")
    assert scale.Tick(store, *aws, **given).run() == {"m": {"outcome": "absent"}}


def test_a_policy_is_followed_by_the_endpoint_as_it_is_deployed(store, aws):
    """Its name, its variant and its GPUs are SageMaker's to say; a model without an endpoint is refused."""
    known = scale.deployed(Endpoints({"m": "crayon"}), boto3.client("sagemaker"))
    assert known("m") == ScalableEndpoint("crayon", "AllTraffic", asynchronous=False, gpus=1, cores=4)
    for model in ("m", "nobody"):
        store.put(model, {"min": 1, "max": 2}, by="a")
    done = scale.Tick(store, *aws, now=lambda: NOW, endpoint=known).run()
    assert (done["m"]["outcome"], done["nobody"]["outcome"]) == ("reconciled", "refused")
    assert limits(aws)[1] == 2


def test_one_model_that_aws_cannot_follow_does_not_hold_up_the_others(store, aws):
    minutely = [{"name": f"w{n}", "cron": f"{n} */2 {n + 1} * *", "duration": "10m", "min": 2} for n in range(20)]
    store.put("crayon", {"min": 1, "max": 3, "windows": minutely}, by="a")
    store.put("other", {"min": 1, "max": 2}, by="a")
    done = tick(store, aws)
    assert (done["crayon"]["outcome"], done["crayon"]["field"]) == ("refused", "/windows")
    assert done["other"]["outcome"] == "reconciled"


def test_row_82_a_tick_that_was_overtaken_writes_no_more(store, aws):
    """The newer tick runs whole between two calls of the older one, as after a pause."""
    store.put("crayon", POLICY, by="a")
    scaling, cloudwatch = aws

    class Paused:
        woken = False

        def __getattr__(self, name):
            if name == "describe_scheduled_actions" and not self.woken:
                self.woken = True
                store.put("crayon", {"min": 1, "max": 2}, by="b")
                assert tick(store, aws)["crayon"]["outcome"] == "reconciled"
            return getattr(scaling, name)

    paused = Paused()
    assert scale.Tick(store, paused, cloudwatch, now=lambda: NOW).run()["crayon"]["outcome"] == "overtaken"
    assert paused.woken
    assert actions(aws) == []  # the old policy's actions were not written
    target = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"][0]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 2)


def test_the_handler_reads_its_settings_and_tells_of_failures(tmp_path, monkeypatch, store, aws):
    monkeypatch.setenv("DARKROOM_JOBS_URL", f"sqlite:///{tmp_path / 'jobs.db'}")
    store.put("crayon", POLICY, by="a")
    assert scale.lambda_handler({}, None)["crayon"]["outcome"] == "reconciled"

    def broken(*arguments, **named):
        raise OSError("no answer")

    monkeypatch.setattr(scale, "reconcile", broken)
    with pytest.raises(RuntimeError, match="crayon"):
        scale.lambda_handler({}, None)
