"""The endpoint, and how many instances it has: what SageMaker and its scaling accept, and no linter checks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

from darkroom.scaling.application_autoscaling import DIMENSION, MOST_ACTIONS, ScalableEndpoint, compile_policy
from darkroom.scaling.timeline import timeline
from darkroom.settings import Settings
from functions.scale import usual_policy
from tests.infrastructure import schedule
from tests.infrastructure.iam import allows
from tests.infrastructure.rulebook import rule, wants
from tests.infrastructure.rules.functions import environment
from tests.infrastructure.rules.roles import statements
from tests.infrastructure.stack import Stack

_GPU = ("ml.g", "ml.p")
# Alarms that mean a new version is worse, whatever the demand.
ROLLBACK = ("endpoint-errors", "slow", "engine-integrity")
_START = datetime(2026, 11, 16, tzinfo=UTC)


def name_of(stack: Stack) -> str:
    """What the endpoint is called."""
    return f"{stack.parameters['Deployment']}-{stack.parameters['ModelName']}"


def has_endpoint(stack: Stack) -> bool:
    """Whether these parameters ask for one."""
    return bool(stack.parameters["ContainerImage"])


@rule
def an_endpoint_exists_with_an_image(stack: Stack) -> Iterator[str]:
    """One model, one configuration, one endpoint, one scalable target; none of them before there is an image."""
    for kind in ("SageMaker::Model", "SageMaker::EndpointConfig", "SageMaker::Endpoint"):
        found = len(list(stack.of(f"AWS::{kind}")))
        yield from wants(found == int(has_endpoint(stack)), f"{found} of {kind}")
    # Without the target another InstanceType can be deployed: SageMaker refuses it of a variant that is scaled.
    scaled = has_endpoint(stack) and stack.parameters["Autoscaling"] == "on"
    found = len(list(stack.of("AWS::ApplicationAutoScaling::ScalableTarget")))
    yield from wants(found == int(scaled), f"{found} scalable targets")
    for model in stack.of("AWS::SageMaker::Model"):
        image = model["PrimaryContainer"]["Image"]
        yield from wants(image == stack.parameters["ContainerImage"], "another image")
        yield from wants(model["ExecutionRoleArn"].endswith("role/modelrole-id"), "the container runs as another role")


@rule
def functions_and_endpoint_agree(stack: Stack) -> Iterator[str]:
    """The functions call the endpoint that there is, as it takes requests, and put files where it may read them."""
    for name, function in stack.functions().items():
        told = environment(function)
        wanted = f"{stack.parameters['ModelName']}={name_of(stack)}"
        yield from wants(told["DARKROOM_ENDPOINTS"] == wanted, f"{name} calls another endpoint")
        kind = stack.parameters["EndpointType"]
        yield from wants(told["DARKROOM_ENDPOINT_TYPE"] == kind, f"{name} takes the endpoint for another kind")
        yield from wants(told["DARKROOM_ASYNC_URL"] == "s3://images-id/async", f"{name} puts files elsewhere")
    limits = environment(stack.functions()["scale"])["DARKROOM_INSTANCES"]
    given = stack.parameters
    yield from wants(limits == f"{given['MinInstances']}-{given['MaxInstances']}", "scale goes back to other limits")


@rule
def instances_start(stack: Stack) -> Iterator[str]:
    """At least one (two beside a canary), of a machine that fits its image, with time to fetch a bundle."""
    for config in stack.of("AWS::SageMaker::EndpointConfig"):
        (variant,) = config["ProductionVariants"]
        given = stack.parameters
        yield from wants(
            variant["VariantName"] == ScalableEndpoint("x").variant, "the scaling policy is for another variant"
        )
        yield from wants(variant["ModelName"] == "model-id", "another model")
        yield from wants(variant["InstanceType"] == given["InstanceType"], "another machine")
        least = 2 if given["Rollout"] == "canary" else 1
        yield from wants(variant["InitialInstanceCount"] == least, f"must start with {least}")
        yield from wants(variant["InitialVariantWeight"] == 1, "gets no traffic")
        patience = variant["ContainerStartupHealthCheckTimeoutInSeconds"]
        yield from wants(600 <= patience <= 3600, "a container that fetches gigabytes is given up")
        gpu = given["InstanceType"].startswith(_GPU)
        yield from wants(gpu == ("InferenceAmiVersion" in variant), "a driver for a machine with a GPU, only")
        ami = variant.get("InferenceAmiVersion", given["InferenceAmi"])
        yield from wants(ami == given["InferenceAmi"], "another driver")


@rule
def asynchronous_results_are_heard_of(stack: Stack) -> Iterator[str]:
    """Where the endpoint queues: both topics, results where the container may write and job_events may read."""
    for config in stack.of("AWS::SageMaker::EndpointConfig"):
        wanted = stack.parameters["EndpointType"] == "async"
        yield from wants(("AsyncInferenceConfig" in config.properties) == wanted, "another type of endpoint")
        if not wanted:
            continue
        said = config["AsyncInferenceConfig"]
        output = said["OutputConfig"]
        topics = {"SuccessTopic": stack._ref("Succeeded"), "ErrorTopic": stack._ref("Failed")}
        yield from wants(output["NotificationConfig"] == topics, "nobody hears of a result")
        base = environment(stack.functions()["job_events"])["DARKROOM_ASYNC_URL"]
        yield from wants(output["S3OutputPath"] == f"{base}/out/", "results go elsewhere")
        yield from wants(output["S3FailurePath"] == f"{base}/failed/", "failures go elsewhere")
        for path in (output["S3OutputPath"], output["S3FailurePath"]):
            arn = path.replace("s3://", "arn:aws:s3:::") + "job.out"
            may = allows(statements(stack.resources["ModelRole"]), "s3:PutObject", arn)
            yield from wants(may, f"the container may not write {path}")
        at_once = said["ClientConfig"]["MaxConcurrentInvocationsPerInstance"]
        yield from wants(2 <= at_once <= 64, "the batcher gets no batch")  # the runtime's own queue holds 64


@rule
def changes_are_rolled_out_and_back(stack: Stack) -> Iterator[str]:
    """Blue and green, a canary from two instances only, watched by the alarms that mean the new one is worse; a release
    is watched by the same."""
    told = environment(stack.functions()["release"])["DARKROOM_ROLLBACK_ALARMS"].split(",")
    alarms = {f"{stack.parameters['Deployment']}-{one}" for one in ROLLBACK}
    yield from wants(sorted(told) == sorted(alarms), f"a release is watched by {told}")
    for endpoint in stack.of("AWS::SageMaker::Endpoint"):
        yield from wants(endpoint["EndpointName"] == name_of(stack), "another endpoint")
        yield from wants(endpoint["EndpointConfigName"] == "endpointconfig-id", "another configuration")
        yield from wants(
            endpoint["RetainAllVariantProperties"] is True, "a change of the stack resets the fleet's size"
        )
        said = endpoint["DeploymentConfig"]
        policy = said["BlueGreenUpdatePolicy"]
        shift = policy["TrafficRoutingConfiguration"]
        (config,) = stack.of("AWS::SageMaker::EndpointConfig")
        instances = config["ProductionVariants"][0]["InitialInstanceCount"]
        canary = stack.parameters["Rollout"] == "canary"
        yield from wants(shift["Type"] == ("CANARY" if canary else "ALL_AT_ONCE"), "another rollout")
        yield from wants(shift["Type"] != "CANARY" or instances >= 2, "a canary needs two instances")
        wanted = {"Type": "CAPACITY_PERCENT", "Value": 50} if canary else None
        yield from wants(shift.get("CanarySize") == wanted, "a canary is at most half")
        yield from wants(60 <= shift["WaitIntervalInSeconds"] <= 3600, "no time to see what goes wrong")
        yield from wants(60 <= policy["TerminationWaitInSeconds"] <= 3600, "no time to go back")
        yield from wants(1800 <= policy["MaximumExecutionTimeoutInSeconds"] <= 14_400, "never given up")
        watched = {one["AlarmName"] for one in said["AutoRollbackConfiguration"]["Alarms"]}
        wanted = {f"{stack.parameters['Deployment']}-{one}" for one in ROLLBACK}
        yield from wants(watched == wanted, f"other alarms roll back: {sorted(watched)}")


# ---- scaling ------------------------------------------------------------------------------------------------------


@rule
def limits_are_in_order(stack: Stack) -> Iterator[str]:
    """min <= max, at most 200 actions that set both at legal times, and no real-time endpoint at zero."""
    for target in stack.of("AWS::ApplicationAutoScaling::ScalableTarget"):
        endpoint = ScalableEndpoint(name_of(stack))
        yield from wants(target["ServiceNamespace"] == endpoint.target["ServiceNamespace"], "another service")
        yield from wants(target["ResourceId"] == endpoint.target["ResourceId"], "another endpoint is scaled")
        yield from wants(target["ScalableDimension"] == DIMENSION, "another dimension")
        given = stack.parameters
        low, high = target["MinCapacity"], target["MaxCapacity"]
        yield from wants((str(low), str(high)) == (given["MinInstances"], given["MaxInstances"]), "other limits")
        yield from wants(low <= high, f"at least {low} and at most {high}")
        yield from wants(low >= 1 or given["EndpointType"] == "async", "a real-time endpoint cannot be at zero")
        yield from wants(target.attributes.get("DependsOn") == "Endpoint", "registered before the endpoint exists")
        actions = target.get("ScheduledActions", [])
        yield from wants(len(actions) <= MOST_ACTIONS, f"{len(actions)} scheduled actions")
        for action in actions:
            yield from wants(schedule.is_legal(action["Schedule"]), f"no schedule: {action}")
            yield from wants(action.get("Timezone", "UTC") in available_timezones(), f"no zone: {action}")
            limits = action["ScalableTargetAction"]
            both = {"MinCapacity", "MaxCapacity"} <= limits.keys()
            ordered = both and limits["MinCapacity"] <= limits["MaxCapacity"]
            yield from wants(ordered, "an action sets both limits, in order")


@rule
def scaling_policies_have_one_owner(stack: Stack) -> Iterator[str]:
    """The scale function makes them all, the deployment's own too: a metric has one target-tracking policy, and the
    service refuses a second. What it would make of these parameters can be made."""
    yield from wants(not list(stack.of("AWS::ApplicationAutoScaling::ScalingPolicy")), "a policy of another owner")
    told = Settings.read(environment(stack.functions()["scale"]))
    given, usual = stack.parameters, usual_policy(told)
    yield from wants(usual is not None, "nothing scales until a policy is stored")
    if usual is None:
        return
    target = usual.metrics.chosen()[0][1].target
    yield from wants(target == float(given["BacklogPerInstance"]), f"another backlog: {target}")
    limits = (str(usual.min), str(usual.max))
    yield from wants(limits == (given["MinInstances"], given["MaxInstances"]), f"other limits: {limits}")
    endpoint = ScalableEndpoint(name_of(stack), asynchronous=given["EndpointType"] == "async")
    made = compile_policy(usual, timeline(usual, _START, _START + timedelta(days=1)), endpoint)
    wakes = "HasBacklogWithoutCapacity" in str(made.alarms)
    yield from wants(wakes == (usual.min == 0), "an endpoint at zero needs waking up")
