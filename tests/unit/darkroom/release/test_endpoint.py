"""An endpoint told to change, against moto's models and configurations and a fake of its deployments."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import boto3
import pytest

from darkroom.release.advance import ActionRefused, NotNow
from darkroom.release.endpoint import Endpoint, EndpointSnapshot
from darkroom.release.state import UNPINNED, EndpointStatus, TrafficSplit
from darkroom.scaling.application_autoscaling import ScalableEndpoint
from tests.fakes import aws
from tests.fakes.control_plane import ControlPlane
from tests.infrastructure.stack import CONFIGURATIONS, Stack, read

OLD, NEW = "a" * 16, "b" * 16
_names = count()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with aws.serving() as url:
        yield url


@pytest.fixture
def plane(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    with ControlPlane(moto) as started:
        for name, value in aws.environment(moto).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", started.url)
        yield started


def deployed(instances: int = 1, **how: Any) -> Endpoint:
    """An endpoint as the stack makes it."""
    sagemaker, name = boto3.client("sagemaker"), f"darkroom-tiny{next(_names)}"
    container = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/runtime:1", "Environment": {"A": "1"}}
    role = "arn:aws:iam::123456789012:role/container"
    sagemaker.create_model(ModelName=f"{name}-stack", ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": f"{name}-stack",
        "InitialInstanceCount": instances,
        "InstanceType": "ml.g4dn.xlarge",
        "InitialVariantWeight": 1.0,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-stack", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-stack")
    return Endpoint(name, sagemaker, boto3.client("cloudwatch"), **how)


def changes(plane: ControlPlane) -> list[str]:
    return [operation for operation, _ in plane.calls]


def test_what_the_stack_made_follows_the_pointer(plane):
    assert deployed().look() == EndpointSnapshot(EndpointStatus.READY, TrafficSplit(UNPINNED))


def test_an_endpoint_that_is_not_there_is_absent(plane):
    assert Endpoint("gone", boto3.client("sagemaker"), boto3.client("cloudwatch")).look() == EndpointSnapshot(
        EndpointStatus.ABSENT
    )


def test_an_update_makes_what_is_missing_and_is_seen_to_come(plane):
    endpoint = deployed()
    plane.calls.clear()
    endpoint.update(TrafficSplit(NEW), careful=True)
    assert changes(plane) == ["CreateModel", "CreateEndpointConfig", "UpdateEndpoint"]
    assert endpoint.look() == EndpointSnapshot(EndpointStatus.BUSY, TrafficSplit(UNPINNED), TrafficSplit(NEW))
    plane.finish(endpoint.name)
    assert endpoint.look() == EndpointSnapshot(EndpointStatus.READY, TrafficSplit(NEW))
    made = plane.calls[0][1]
    assert made["PrimaryContainer"]["Environment"] == {"A": "1", "RUNTIME_VERSION": NEW}
    assert made["ModelName"].startswith(f"{endpoint.name}-{NEW}-")


def test_an_update_that_was_cut_short_is_finished(plane):
    """The process died after each of its calls."""
    endpoint = deployed()
    for dies_at in ("create_endpoint_config", "update_endpoint"):
        crashing = Endpoint(endpoint.name, _Crashing(endpoint.sagemaker, dies_at), endpoint.cloudwatch)
        with pytest.raises(RuntimeError):
            crashing.update(TrafficSplit(NEW), careful=True)
    endpoint.update(TrafficSplit(NEW), careful=True)
    assert changes(plane).count("CreateModel") == 2  # the stack's and ours
    assert changes(plane).count("CreateEndpointConfig") == 2
    assert endpoint.look().coming == TrafficSplit(NEW)


def test_versions_side_by_side_share_requests_as_told(plane):
    endpoint = deployed()
    endpoint.update(TrafficSplit(OLD, NEW, 10), careful=True)
    plane.finish(endpoint.name)
    assert endpoint.look().running == TrafficSplit(OLD, NEW, 10)
    endpoint.reweigh(TrafficSplit(OLD, NEW, 40))
    assert endpoint.look().status is EndpointStatus.BUSY
    plane.finish(endpoint.name)
    assert endpoint.look() == EndpointSnapshot(EndpointStatus.READY, TrafficSplit(OLD, NEW, 40))
    endpoint.update(TrafficSplit(NEW), careful=True)
    plane.finish(endpoint.name)
    assert endpoint.look().running == TrafficSplit(NEW)


@pytest.mark.parametrize(
    ("instances", "shift", "kind"), [(1, "canary", "ALL_AT_ONCE"), (2, "canary", "CANARY"), (5, "linear", "LINEAR")]
)
def test_traffic_moves_as_the_instances_allow(plane, instances, shift, kind):
    endpoint = deployed(instances, shift=shift, alarms=("slow",))
    endpoint.update(TrafficSplit(NEW), careful=True)
    how = plane.endpoints[endpoint.name].deployment
    assert how["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == kind
    assert how["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "slow"}]}


def test_an_alarm_that_rings_already_does_not_end_the_release_that_mends_it(plane):
    endpoint = deployed(alarms=("slow", "errors"))
    endpoint.cloudwatch.put_metric_alarm(
        AlarmName="errors", Namespace="n", MetricName="m", Period=60, EvaluationPeriods=1, Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold", Statistic="Sum",
    )  # fmt: skip
    endpoint.cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    assert endpoint.ringing() == ("errors",)
    endpoint.update(TrafficSplit(NEW), careful=True)
    assert plane.endpoints[endpoint.name].deployment["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "slow"}]}


def test_while_the_endpoint_changes_it_is_asked_later(plane):
    endpoint = deployed()
    endpoint.update(TrafficSplit(NEW), careful=True)
    with pytest.raises(NotNow):
        endpoint.update(TrafficSplit(OLD), careful=False)
    with pytest.raises(NotNow):
        endpoint.reweigh(TrafficSplit(OLD, NEW, 10))


def test_what_sagemaker_will_never_do_is_refused(plane):
    endpoint = deployed()
    with pytest.raises(ActionRefused, match="SageMaker refused"):
        endpoint.reweigh(TrafficSplit(OLD, NEW, 10))  # there is nothing beside


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Creating", EndpointStatus.BUSY),
        ("SystemUpdating", EndpointStatus.BUSY),
        ("RollingBack", EndpointStatus.BUSY),
        ("Failed", EndpointStatus.BROKEN),
        ("OutOfService", EndpointStatus.BROKEN),
        ("UpdateRollbackFailed", EndpointStatus.READY),
    ],
)
def test_every_status_is_understood(plane, said, status):
    endpoint = deployed()
    plane.endpoints[endpoint.name].status = said
    look = endpoint.look()
    assert look.status is status
    assert said != "UpdateRollbackFailed" or look.running is None  # a mixture


def test_an_endpoint_that_went_back_runs_what_it_ran(plane):
    endpoint = deployed()
    endpoint.update(TrafficSplit(NEW), careful=True)
    plane.go_back(endpoint.name)
    assert endpoint.look() == EndpointSnapshot(EndpointStatus.READY, TrafficSplit(UNPINNED))


class _Crashing:
    """A client that dies before one operation."""

    def __init__(self, client: Any, dies_at: str) -> None:
        self._client, self._dies_at = client, dies_at

    def __getattr__(self, name: str) -> Any:
        if name == self._dies_at:
            raise RuntimeError(name)
        return getattr(self._client, name)


# ---- the stack's own changes, as docs/aws.md says to make them -----------------------------------------------------


def changed_by_the_stack(endpoint: Endpoint, instance_type: str) -> dict[str, Any]:
    """What CloudFormation sends where InstanceType is another: the template's properties of the endpoint."""
    config = endpoint.sagemaker.describe_endpoint_config(EndpointConfigName=f"{endpoint.name}-stack")
    variant = config["ProductionVariants"][0] | {"InstanceType": instance_type}
    name = f"{endpoint.name}-{instance_type.replace('.', '-')}"
    endpoint.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    said = Stack(read(), CONFIGURATIONS["async, to zero"]).resources["Endpoint"].properties
    return {**said, "EndpointName": endpoint.name, "EndpointConfigName": name}


def test_another_instance_type_needs_a_target_that_is_not_registered(plane):
    """`Autoscaling=off` first, which takes the target away; then the change, with `on`."""
    endpoint, scaling = deployed(), boto3.client("application-autoscaling")
    target = ScalableEndpoint(endpoint.name).target
    scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=2)
    change = changed_by_the_stack(endpoint, "ml.g4dn.2xlarge")
    with pytest.raises(endpoint.sagemaker.exceptions.ClientError, match="deregistered as scalable targets"):
        endpoint.sagemaker.update_endpoint(**change)
    scaling.deregister_scalable_target(**target)
    endpoint.sagemaker.update_endpoint(**change)
    plane.finish(endpoint.name)
    described = endpoint.sagemaker.describe_endpoint(EndpointName=endpoint.name)
    assert described["EndpointConfigName"] == change["EndpointConfigName"]


def test_a_change_of_the_stack_keeps_the_fleets_size(plane):
    endpoint = deployed()
    plane.endpoints[endpoint.name].instances["AllTraffic"] = 5
    endpoint.sagemaker.update_endpoint(**changed_by_the_stack(endpoint, "ml.g4dn.4xlarge"))
    plane.finish(endpoint.name)
    (variant,) = endpoint.sagemaker.describe_endpoint(EndpointName=endpoint.name)["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 5
