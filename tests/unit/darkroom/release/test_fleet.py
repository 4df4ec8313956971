"""Endpoint configurations read as traffic, and traffic written as endpoint configurations."""

from typing import Any

import pytest

from darkroom.release.fleet import BESIDE, LONGEST_NAME, MAIN, config_for, deployment, model_for, named, traffic_of
from darkroom.release.state import UNPINNED, TrafficSplit

OLD, NEW = "a" * 16, "b" * 16
STACK_MODEL: dict[str, Any] = {
    "ModelName": "stack",
    "PrimaryContainer": {"Image": "image:1", "Environment": {"RUNTIME_MODEL": "crayon"}},
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/container",
    "ModelArn": "arn:...",
    "CreationTime": "then",
    "ResponseMetadata": {},
}
VARIANT = {
    "VariantName": MAIN,
    "ModelName": "stack",
    "InstanceType": "ml.g5.xlarge",
    "InitialInstanceCount": 2,
    "InitialVariantWeight": 1.0,
    "InferenceAmiVersion": "gpu",
}
ASYNC = {"OutputConfig": {"S3OutputPath": "s3://images/async/out/"}}
STACK_CONFIG = {
    "EndpointConfigName": "stack",
    "ProductionVariants": [VARIANT],
    "AsyncInferenceConfig": ASYNC,
    "CreationTime": "then",
}


def pinned(version: str) -> dict[str, Any]:
    return model_for(version, STACK_MODEL)


def test_a_model_that_names_no_version_follows_the_pointer():
    assert traffic_of(STACK_CONFIG, {"stack": STACK_MODEL}, {}) == TrafficSplit(UNPINNED)


def test_a_model_is_copied_with_its_version_alone_changed():
    assert pinned(NEW) == {
        "PrimaryContainer": {"Image": "image:1", "Environment": {"RUNTIME_MODEL": "crayon", "RUNTIME_VERSION": NEW}},
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/container",
    }
    assert model_for(OLD, pinned(NEW)) == pinned(OLD)


@pytest.mark.parametrize("traffic", [TrafficSplit(NEW), TrafficSplit(OLD, NEW, 10), TrafficSplit(OLD, NEW, 99)])
def test_what_is_written_reads_the_same(traffic):
    models = {OLD: "old", NEW: "new"}
    config = config_for(traffic, STACK_CONFIG, models, {MAIN: 3})
    described = {"old": pinned(OLD), "new": pinned(NEW)}
    assert traffic_of(config, described, {}) == traffic
    assert config_for(traffic, config, models, {MAIN: 3}) == config


def test_a_configuration_keeps_what_the_stack_asked_for():
    config = config_for(TrafficSplit(OLD, NEW, 10), STACK_CONFIG, {OLD: "old", NEW: "new"}, {MAIN: 3})
    main = {**VARIANT, "ModelName": "old", "InitialInstanceCount": 3, "InitialVariantWeight": 90.0}
    beside = {
        **VARIANT,
        "VariantName": BESIDE,
        "ModelName": "new",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 10.0,
    }
    assert config == {"ProductionVariants": [main, beside], "AsyncInferenceConfig": ASYNC}


def test_an_endpoint_that_sleeps_is_changed_awake():
    (variant,) = config_for(TrafficSplit(NEW), STACK_CONFIG, {NEW: "new"}, {MAIN: 0})["ProductionVariants"]
    assert variant["InitialInstanceCount"] == 1


def test_weights_of_the_moment_count():
    config = config_for(TrafficSplit(OLD, NEW, 10), STACK_CONFIG, {OLD: "old", NEW: "new"}, {})
    described = {"old": pinned(OLD), "new": pinned(NEW)}
    assert traffic_of(config, described, {MAIN: 1.0, BESIDE: 3.0}) == TrafficSplit(OLD, NEW, 75)
    assert traffic_of(config, described, {MAIN: 0.0, BESIDE: 0.0}) == TrafficSplit(OLD, NEW, 0)


def test_another_layout_is_nobodys_traffic():
    other = {"ProductionVariants": [{**VARIANT, "VariantName": "other"}]}
    assert traffic_of(other, {"stack": STACK_MODEL}, {}) is None


@pytest.mark.parametrize("endpoint", ["darkroom-crayon", "d" * 20 + "-" + "m" * 30, "x" * LONGEST_NAME])
def test_names_fit_are_repeatable_and_tell_contents_apart(endpoint):
    names = {named(endpoint, version, {"image": image}) for version in (OLD, NEW) for image in "12"}
    assert len(names) == 4
    assert all(len(name) <= LONGEST_NAME for name in names)
    assert named(endpoint, OLD, {"a": 1, "b": 2}) == named(endpoint, OLD, {"b": 2, "a": 1})


def test_a_name_shows_the_version():
    assert named("darkroom-crayon", NEW, {}).startswith(f"darkroom-crayon-{NEW}-")
    assert named("d" * 20 + "-" + "m" * 30, NEW, {})[51:54] == "-bb"


def instances(*counts: int) -> dict[str, Any]:
    return {"ProductionVariants": [{"InitialInstanceCount": count} for count in counts]}


def routing(*counts: int, **how: Any) -> dict[str, Any]:
    said = deployment(instances(*counts), **{"careful": True, "alarms": (), **how})
    found: dict[str, Any] = said["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    return found


def test_from_two_instances_on_a_canary_goes_first():
    assert routing(2)["Type"] == "CANARY"
    assert routing(2)["CanarySize"] == {"Type": "INSTANCE_COUNT", "Value": 1}
    assert routing(1)["Type"] == "ALL_AT_ONCE"
    assert routing(4, 1)["Type"] == "ALL_AT_ONCE"


@pytest.mark.parametrize("count", range(2, 40))
def test_linear_steps_are_a_tenth_to_a_half(count):
    found = routing(count, shift="linear")
    assert found["Type"] == "LINEAR"
    assert 0.1 <= found["LinearStepSize"]["Value"] / count <= 0.5


def test_alarms_watch_a_careful_change_only():
    said = deployment(instances(2), careful=True, alarms=[f"alarm-{n}" for n in range(12)])
    assert len(said["AutoRollbackConfiguration"]["Alarms"]) == 10
    assert said["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] > 0
    back = deployment(instances(2), careful=False, alarms=["slow"])
    assert "AutoRollbackConfiguration" not in back
    assert back["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
