"""What the functions' code calls AWS for is allowed to each role: the rules' list of needs is held to the code."""

import ast

import pytest
from botocore import xform_name
from botocore.session import get_session

from tests.infrastructure.iam import listed
from tests.infrastructure.rules.functions import modules_of
from tests.infrastructure.rules.roles import statements
from tests.infrastructure.stack import CONFIGURATIONS, Stack, read

SERVICES = {
    "dynamodb": "dynamodb",
    "s3": "s3",
    "sagemaker": "sagemaker",
    "sagemaker-runtime": "sagemaker",
    "application-autoscaling": "application-autoscaling",
    "cloudwatch": "cloudwatch",
    "secretsmanager": "secretsmanager",
}
# Where a call's permission is named otherwise than the call.
PERMISSIONS = {
    "dynamodb:TransactWriteItems": {"dynamodb:PutItem", "dynamodb:UpdateItem"},
    "s3:HeadObject": {"s3:GetObject"},
    "s3:ListObjects": {"s3:ListBucket"},
    "s3:CreateMultipartUpload": {"s3:PutObject"},
    "s3:UploadPart": {"s3:PutObject"},
    "s3:CompleteMultipartUpload": {"s3:PutObject"},
}
# What stands in a module that a function imports, and what this function never comes to.
NEVER = {
    "s3:AbortMultipartUpload": "functions store less than one part",
    "dynamodb:DeleteItem": "only job_events purges",
    "secretsmanager:GetSecretValue": "only the API asks callers",
    "sagemaker:InvokeEndpoint": "asynchronous endpoints",
    "sagemaker:InvokeEndpointAsync": "real-time endpoints",
    "application-autoscaling:DeregisterScalableTarget": "the stack owns the target (docs/decisions/026)",
}
# The same of one function alone.
NEVER_OF = {
    "job_events": {"s3:DeleteObject": "lifecycle rules delete"},
    "release": {
        "dynamodb:PutItem": "only the API accepts jobs and requests",
        "s3:DeleteObject": "lifecycle rules delete",
    },
}


def _operations() -> dict[str, set[str]]:
    """Method of a boto3 client -> `service:Operation`."""
    session, found = get_session(), {}
    for service, prefix in SERVICES.items():
        for operation in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(operation), set()).add(f"{prefix}:{operation}")
    return found


OPERATIONS = _operations()


def calls(function: str) -> set[str]:
    """Every AWS operation that is named in the modules of a function: as a method, or as a word handed to one."""
    named = set()
    for source in modules_of(f"functions.{function}"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Attribute):
                named.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    # One word, such as `query` or `scan`, may be anybody's method.
    return {one for name in named if "_" in name for one in OPERATIONS.get(name, ())}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("function", sorted(Stack(read(), {}).functions()))
def test_calls_are_allowed(function: str, configuration: str) -> None:
    stack = Stack(read(), CONFIGURATIONS[configuration])
    role = stack.resources[function.title().replace("_", "") + "Role"]
    allowed = {action for one in statements(role) for action in listed(one["Action"])}
    needed = {action for one in calls(function) for action in PERMISSIONS.get(one, {one})}
    never = NEVER.keys() | NEVER_OF.get(function, {}).keys()
    assert needed - allowed - never == set()


def test_the_search_finds_calls() -> None:
    assert {"dynamodb:GetItem", "s3:PutObject", "sagemaker:InvokeEndpointAsync"} <= calls("api")
    assert {"application-autoscaling:PutScheduledAction", "cloudwatch:PutMetricAlarm"} <= calls("scale")
