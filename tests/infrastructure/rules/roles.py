"""Roles: each function may do exactly what its code calls, on what is this deployment's, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from darkroom.images.uploads import PREFIX
from runtime.cache.shared import PREFIX as SHARED
from tests.infrastructure.iam import allows, listed
from tests.infrastructure.rulebook import rule, states, wants
from tests.infrastructure.stack import Resource, Stack

_ACCOUNT = "us-east-1:123456789012"
_ENDPOINT = f"arn:aws:sagemaker:{_ACCOUNT}:endpoint/darkroom-crayon"
_ENGINES, _IMAGES = "arn:aws:s3:::engines-id", "arn:aws:s3:::images-id"
_JOBS = [f"arn:aws:dynamodb:{_ACCOUNT}:table/jobs-id", f"arn:aws:dynamodb:{_ACCOUNT}:table/jobs-id/index/status"]
_POLICIES = f"arn:aws:dynamodb:{_ACCOUNT}:table/policies-id"
_TARGET = f"arn:aws:application-autoscaling:{_ACCOUNT}:scalable-target/0123abc"
_SAGEMAKER = {"application-autoscaling:service-namespace": "sagemaker"}
_ALARM = f"arn:aws:cloudwatch:{_ACCOUNT}:alarm:darkroom.darkroom-crayon.wake"
# Application Auto Scaling tries its caller's permissions before it does anything, with calls that name no alarm:
# "Permissions validation for Application Auto Scaling API calls on target resources" in its User Guide.
_NAMELESS_ALARM = f"arn:aws:cloudwatch:{_ACCOUNT}:alarm:"
_DEAD_LETTERS = f"arn:aws:sqs:{_ACCOUNT}:deadletters-id"
_TABLE_ACTIONS = ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query")

# These calls name no resource: IAM takes nothing but * for them.
NAMELESS = {
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:DescribeScheduledActions",
    "application-autoscaling:DescribeScalingPolicies",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:PutMetricAlarm",
    "cloudwatch:DeleteAlarms",
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
}


@dataclass(frozen=True)
class Need:
    """An action on examples of what it is done to. `never`: near misses that must be refused."""

    action: str
    on: tuple[str, ...] = ("*",)
    never: tuple[str, ...] = ()
    context: dict[str, str] = field(default_factory=dict)


def _needs(service: str, actions: tuple[str, ...], *on: str, never: tuple[str, ...] = (), **context: str) -> list[Need]:
    return [Need(f"{service}:{action}", on, never, context) for action in actions]


_OTHER = f"arn:aws:sagemaker:{_ACCOUNT}:endpoint/another"
_OBJECTS_ELSEWHERE = ("arn:aws:s3:::another/models/crayon/current.json",)
_TRACING = _needs("xray", ("PutTraceSegments", "PutTelemetryRecords"), "*")


def _logging(group: str) -> list[Need]:
    own, others = (f"arn:aws:logs:{_ACCOUNT}:log-group:{name}:*" for name in (group, "/aws/lambda/another"))
    return _needs("logs", ("CreateLogStream", "PutLogEvents"), own, never=(others,))


def needs(stack: Stack) -> dict[str, list[Need]]:
    """Role -> everything its code asks AWS for."""
    given = stack.parameters
    invoke = "InvokeEndpointAsync" if given["EndpointType"] == "async" else "InvokeEndpoint"
    jobs = _needs("dynamodb", _TABLE_ACTIONS, *_JOBS)
    policies = _needs("dynamodb", tuple(a for a in _TABLE_ACTIONS if a != "DeleteItem"), _POLICIES)
    jobs_only = [Need(one.action, one.on, (_POLICIES,)) for one in jobs]
    policies_only = [Need(one.action, one.on, (_JOBS[0],)) for one in policies]
    bundle, pointer = f"{_ENGINES}/models/crayon/0123/manifest.json", f"{_ENGINES}/models/crayon/current.json"
    image, request = f"{_IMAGES}/images/job/0.png", f"{_IMAGES}/async/in/job"
    upload = f"{_IMAGES}/{PREFIX}0123"
    latents = f"{_IMAGES}/{SHARED}crayon/0123/15.latents"
    results = (f"{_IMAGES}/async/out/job.out", f"{_IMAGES}/async/failed/job.out")
    sent = f"{_IMAGES}/async/sent/job.1"  # where the endpoint said it writes
    keys = _needs("secretsmanager", ("GetSecretValue",), f"arn:aws:secretsmanager:{_ACCOUNT}:secret:apikeys-id")
    config, model = (f"arn:aws:sagemaker:{_ACCOUNT}:{kind}" for kind in ("endpoint-config", "model"))
    made = (f"{config}/darkroom-crayon-0123", f"{model}/darkroom-crayon-0123")
    foreign = (f"{config}/another", f"{model}/another")
    return {
        "ApiRole": [
            *_logging("/aws/lambda/darkroom-api"),
            *_TRACING,
            *jobs,
            *_needs("dynamodb", ("Query",), f"{_JOBS[0]}/index/tenant"),
            *policies,
            *_needs(
                "s3", ("GetObject",), bundle, pointer, image, request, upload, never=(results[0], *_OBJECTS_ELSEWHERE)
            ),
            *_needs("s3", ("PutObject",), request, upload, never=(bundle, pointer, image, results[0])),
            *_needs("s3", ("PutObject", "GetObject"), sent),
            *_needs("s3", ("DeleteObject",), upload, image, never=(bundle, pointer, request, results[0])),
            *_needs("s3", ("ListBucket",), _ENGINES, _IMAGES, never=("arn:aws:s3:::another",)),
            *_needs("sagemaker", (invoke,), _ENDPOINT, never=(_OTHER,)),
            *(keys if given["Access"] == "api-key" else []),
        ],
        "JobEventsRole": [
            *_logging("/aws/lambda/darkroom-job-events"),
            *_TRACING,
            *jobs_only,
            *_needs("s3", ("GetObject",), *results, never=(image, bundle)),
            *_needs("s3", ("GetObject", "PutObject"), request, sent, never=(image, bundle)),
            *_needs("s3", ("ListBucket",), _IMAGES, never=(_ENGINES,)),
            *_needs("sagemaker", (invoke,), _ENDPOINT, never=(_OTHER,)),
            *_needs("sqs", ("SendMessage",), _DEAD_LETTERS),
        ],
        "ScaleRole": [
            *_logging("/aws/lambda/darkroom-scale"),
            *_TRACING,
            *policies_only,
            *_needs("application-autoscaling", ("DescribeScalableTargets", "DescribeScheduledActions"), "*"),
            *_needs("application-autoscaling", ("DescribeScalingPolicies",), "*"),
            *(
                Need(f"application-autoscaling:{action}", (_TARGET,), (), _SAGEMAKER)
                for action in (
                    "RegisterScalableTarget",
                    "PutScheduledAction",
                    "DeleteScheduledAction",
                    "PutScalingPolicy",
                    "DeleteScalingPolicy",
                )
            ),
            *_needs("cloudwatch", ("DescribeAlarms",), "*"),
            *_needs("cloudwatch", ("PutMetricAlarm", "DeleteAlarms"), _ALARM, _NAMELESS_ALARM),
            *_needs(
                "sagemaker", ("DescribeEndpoint", "UpdateEndpointWeightsAndCapacities"), _ENDPOINT, never=(_OTHER,)
            ),
            *_needs("sagemaker", ("DescribeEndpointConfig",), f"{config}/stack-generated", never=(_OTHER,)),
        ],
        "ReleaseRole": [
            *_logging("/aws/lambda/darkroom-release"),
            *_TRACING,
            *(one for one in policies_only if one.action in ("dynamodb:GetItem", "dynamodb:UpdateItem")),
            *_needs(
                "s3", ("GetObject",), bundle, pointer, image, *results, never=(f"{_ENGINES}/models/other/x", upload)
            ),
            *_needs(
                "s3", ("PutObject",), pointer, never=(bundle, f"{_ENGINES}/models/other/current.json", image, request)
            ),
            *_needs("s3", ("GetObject", "PutObject"), sent),
            *_needs("s3", ("ListBucket",), _ENGINES, _IMAGES, never=("arn:aws:s3:::another",)),
            *_needs("sagemaker", ("DescribeEndpointConfig",), f"{config}/stack-generated", never=(_OTHER,)),
            *_needs("sagemaker", ("DescribeModel",), f"{model}/stack-generated", never=(_OTHER,)),
            *_needs("sagemaker", ("CreateModel",), made[1], never=(*foreign, made[0])),
            *_needs("sagemaker", ("CreateEndpointConfig",), *made, never=foreign),
            *_needs("sagemaker", ("UpdateEndpoint",), _ENDPOINT, made[0], never=(_OTHER, foreign[0])),
            *_needs(
                "sagemaker",
                ("DescribeEndpoint", "UpdateEndpointWeightsAndCapacities", invoke),
                _ENDPOINT,
                never=(_OTHER, made[0]),
            ),
            *_needs("cloudwatch", ("DescribeAlarms",), "*"),
            Need(
                "iam:PassRole",
                ("arn:aws:iam::123456789012:role/modelrole-id",),
                ("arn:aws:iam::123456789012:role/apirole-id",),
                {"iam:PassedToService": "sagemaker.amazonaws.com"},
            ),
        ],
        "ModelRole": [
            *_needs(
                "s3", ("GetObject",), bundle, pointer, image, request, upload, never=(f"{_ENGINES}/models/other/x",)
            ),
            *_needs(
                "s3", ("PutObject", "AbortMultipartUpload"), image, *results, never=(bundle, pointer, request, upload)
            ),
            *_needs(
                "s3",
                ("GetObject", "PutObject", "DeleteObject"),
                latents,
                never=(f"{_ENGINES}/models/other/x", latents.replace("crayon", "other")),
            ),
            *_needs("s3", ("DeleteObject",), latents, never=(bundle, pointer, image, request, upload)),
            *_needs("s3", ("ListBucket",), _ENGINES, _IMAGES, never=("arn:aws:s3:::another",)),
            *_needs(
                "sns",
                ("Publish",),
                f"arn:aws:sns:{_ACCOUNT}:succeeded-id",
                f"arn:aws:sns:{_ACCOUNT}:failed-id",
                never=(f"arn:aws:sns:{_ACCOUNT}:alarms-id",),
            ),
            *_needs(
                "logs",
                ("CreateLogStream", "PutLogEvents", "DescribeLogStreams"),
                f"arn:aws:logs:{_ACCOUNT}:log-group:/aws/sagemaker/Endpoints/darkroom-crayon:*",
                never=(f"arn:aws:logs:{_ACCOUNT}:log-group:/aws/sagemaker/Endpoints/another:*",),
            ),
            *(
                Need("cloudwatch:PutMetricData", ("*",), (), {"cloudwatch:namespace": space})
                for space in ("AWS/SageMaker", "/aws/sagemaker/Endpoints")
            ),
            # "Auto-Rollback Configuration and Monitoring" in SageMaker's Developer Guide asks it of the execution role.
            *_needs("cloudwatch", ("DescribeAlarms",), "*"),
            *_needs("ecr", ("GetAuthorizationToken",), "*"),
            *_needs(
                "ecr",
                ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer"),
                f"arn:aws:ecr:{_ACCOUNT}:repository/darkroom",
                never=(f"arn:aws:sqs:{_ACCOUNT}:repository/darkroom",),
            ),
        ],
    }


def statements(role: Resource) -> list[dict]:
    """Everything a role is allowed."""
    return [one for policy in role["Policies"] for one in policy["PolicyDocument"]["Statement"]]


@rule
def roles_cover_what_is_called(stack: Stack) -> Iterator[str]:
    """No call of a function is refused."""
    for name, wanted in needs(stack).items():
        granted = statements(stack.resources[name])
        for need in wanted:
            for arn in need.on:
                yield from wants(
                    allows(granted, need.action, arn, need.context), f"{name} lacks {need.action} on {arn}"
                )


@rule
def roles_allow_nothing_else(stack: Stack) -> Iterator[str]:
    """No action that nothing calls, on no neighbour's resource, and not without its condition."""
    wanted_by = needs(stack)
    yield from wants({one.name for one in stack.of("AWS::IAM::Role")} == wanted_by.keys(), "a role nobody needs")
    for name, wanted in wanted_by.items():
        granted = statements(stack.resources[name])
        actions = {action for one in granted for action in listed(one["Action"])}
        for action in sorted(actions - {one.action for one in wanted}):
            yield f"{name} allows {action}, and nothing calls it"
        for need in wanted:
            for arn in need.never:
                yield from wants(
                    not allows(granted, need.action, arn, need.context), f"{name} allows {need.action} on {arn}"
                )
            if need.context:
                bare = allows(granted, need.action, need.on[0])
                yield from wants(not bare, f"{name} allows {need.action} without a condition")


@rule
def every_resource_is_named(stack: Stack) -> Iterator[str]:
    """`*` only for calls that name no resource, and each part of a list is used."""
    for role in stack.of("AWS::IAM::Role"):
        for policy in role["Policies"]:
            yield from states(role.name, policy, "PolicyName")
            document = policy["PolicyDocument"]
            yield from wants(document["Version"] == "2012-10-17", f"{role.name}: the policy language of 2008")
            for one in document["Statement"]:
                yield from states(role.name, one, "Sid")
                for arn in listed(one["Resource"]):
                    nameless = all(action in NAMELESS for action in listed(one["Action"]))
                    yield from wants(arn != "*" or nameless, f"{role.name}: {one['Sid']} is for every resource")
                for action in listed(one["Action"]):
                    yield from wants("*" not in action, f"{role.name}: {one['Sid']} is for every action")


@rule
def each_function_has_its_own_role(stack: Stack) -> Iterator[str]:
    """Lambda may be the functions', SageMaker the container's, and nobody anything else."""
    for name, function in stack.functions().items():
        own = name.title().replace("_", "") + "Role"
        yield from wants(function["Role"].endswith(f"/{own.lower()}-id"), f"{function.name} runs as {function['Role']}")
    for role in stack.of("AWS::IAM::Role"):
        document = role["AssumeRolePolicyDocument"]
        service = "sagemaker" if role.name == "ModelRole" else "lambda"
        trusted = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        yield from wants(document["Statement"] == [trusted], f"{role.name} is not {service}'s alone")
        yield from wants(document["Version"] == "2012-10-17", f"{role.name}: the policy language of 2008")
