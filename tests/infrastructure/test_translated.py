"""The translated template in moto's CloudFormation; what moto skips there is asked of moto's own APIs instead."""

from __future__ import annotations

import copy
import io
import json
import re
import socket
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.fakes.application_autoscaling import strict
from tests.infrastructure.stack import CONFIGURATIONS, ROOT, Stack, read

SAM_PYTHON = ROOT / ".venv-sam/bin/python"

# moto's CloudFormation warns about these and makes nothing; each is replayed through the service's own API below.
SKIPPED = {
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Authorizer",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::CloudWatch::Alarm",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::SecretsManager::Secret",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
}
SUBSTITUTED = {"ml.g5.xlarge": "ml.g4dn.xlarge", "ml.c7i.2xlarge": "ml.c5.2xlarge"}  # moto knows the older ones


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def refuse(*arguments: object) -> None:
        raise AssertionError("a test may not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def translated(parameters: dict[str, Any]) -> dict[str, Any]:
    """What CloudFormation is given."""
    assert SAM_PYTHON.exists(), "SAM's translator has an environment of its own: run `make .venv-sam/installed` first"
    command = [SAM_PYTHON, ROOT / "tests/infrastructure/translate.py", json.dumps(parameters)]
    template = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    for part in ("Rules", "Outputs"):  # checked by our own rules; moto knows no Rules and no output of an HTTP API
        template.pop(part)
    return template


def archived() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("functions/api.py", "")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="artifacts")
    s3.put_object(Bucket="artifacts", Key="code.zip", Body=archive.getvalue())


@pytest.mark.template
@pytest.mark.filterwarnings("ignore:Tried to parse .* not supported by moto")  # read from the log, below
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_cloudformation_makes_it(configuration: str, caplog: pytest.LogCaptureFixture) -> None:
    given = dict(CONFIGURATIONS[configuration])
    given["InstanceType"] = SUBSTITUTED[given.get("InstanceType", "ml.g5.xlarge")]
    template = translated(given)
    with mock_aws():
        archived()
        cloudformation = boto3.client("cloudformation")
        capable = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
        cloudformation.create_stack(StackName="stack", TemplateBody=json.dumps(template), Capabilities=capable)
        assert cloudformation.describe_stacks(StackName="stack")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
        listed = cloudformation.list_stack_resources(StackName="stack")["StackResourceSummaries"]
    skipped = set(re.findall(r"No Moto CloudFormation support for (\S+)", caplog.text))
    assert skipped <= SKIPPED
    assert [
        one.getMessage() for one in caplog.records if "No Moto CloudFormation support" not in one.getMessage()
    ] == []
    stack = Stack(read(), CONFIGURATIONS[configuration])
    exists = {name for name, said in template["Resources"].items() if _exists(said, stack)}
    wanted = {name for name in exists if template["Resources"][name]["Type"] not in skipped}
    assert {one["LogicalResourceId"] for one in listed} >= wanted
    assert len(wanted) >= 25


def _exists(said: dict[str, Any], stack: Stack) -> bool:
    return "Condition" not in said or stack.conditions(said["Condition"])


# ---- what was skipped ---------------------------------------------------------------------------------------------


def _lower(value: Any) -> Any:
    """Keys as API Gateway's and CloudWatch Logs' APIs spell them: the template's, with a small first letter."""
    return {key[0].lower() + key[1:]: one for key, one in value.items()} if isinstance(value, dict) else value


class Replay:
    """Hands a stack's properties to the services' own APIs, so that botocore checks every name and type."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.ids: dict[str, str] = {}
        self.done: set[str] = set()

    def properties(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for one in self.stack.of(kind):
            self.done.add(kind)
            yield one.name, copy.deepcopy(one.properties)

    def api(self) -> None:
        client = boto3.client("apigatewayv2")
        calls: list[tuple[str, Callable[..., Any], str]] = [
            ("Api", client.create_api, "ApiId"),
            ("Authorizer", client.create_authorizer, "AuthorizerId"),
            ("Integration", client.create_integration, "IntegrationId"),
            ("Route", client.create_route, "RouteId"),
            ("Stage", client.create_stage, "StageName"),
        ]
        for kind, call, identity in calls:
            for name, said in self.properties(f"AWS::ApiGatewayV2::{kind}"):
                for key in ("ApiId", "AuthorizerId"):
                    if key in said:
                        said[key] = self.ids[said[key]]
                self.ids[f"{name.lower()}-id"] = call(**said)[identity]

    def scaling(self) -> None:
        client = boto3.client("application-autoscaling")
        for _, said in self.properties("AWS::ApplicationAutoScaling::ScalableTarget"):
            client.register_scalable_target(**said)

    def alarms(self) -> None:
        for _, said in self.properties("AWS::CloudWatch::Alarm"):
            boto3.client("cloudwatch").put_metric_alarm(**said)

    def logs(self) -> None:
        client = boto3.client("logs")
        for _, said in self.properties("AWS::Logs::LogGroup"):
            client.create_log_group(logGroupName=said["LogGroupName"])
        for name, said in self.properties("AWS::Logs::MetricFilter"):
            transformed = [_lower(one) for one in said.pop("MetricTransformations")]
            client.put_metric_filter(filterName=name, metricTransformations=transformed, **_lower(said))

    def topics(self) -> None:
        client = boto3.client("sns")
        for name, said in self.properties("AWS::SNS::TopicPolicy"):
            arn = client.create_topic(Name=name)["TopicArn"]
            document = json.dumps(said["PolicyDocument"])
            client.set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=document)

    def subscriptions(self) -> None:
        client = boto3.client("sns")
        arns = {f"arn:aws:sns:us-east-1:123456789012:{one.name.lower()}-id" for one in self.stack.of("AWS::SNS::Topic")}
        for arn in arns:
            client.create_topic(Name=arn.rpartition(":")[2])
        for _, said in self.properties("AWS::SNS::Subscription"):
            redrive = said.pop("RedrivePolicy", None)
            attributes = {"RedrivePolicy": json.dumps(redrive)} if redrive else {}
            client.subscribe(**said, Attributes=attributes)

    def secret(self) -> None:
        client = boto3.client("secretsmanager")
        for name, said in self.properties("AWS::SecretsManager::Secret"):
            drawn = said.pop("GenerateSecretString")
            template, key = json.loads(drawn.pop("SecretStringTemplate")), drawn.pop("GenerateStringKey")
            password = client.get_random_password(**drawn)["RandomPassword"]
            assert password.isalnum()
            client.create_secret(Name=name, SecretString=json.dumps(template | {key: password}), **said)

    def policies(self) -> None:
        s3, sqs = boto3.client("s3"), boto3.client("sqs")
        for _, said in self.properties("AWS::S3::BucketPolicy"):
            s3.create_bucket(Bucket=said["Bucket"])
            s3.put_bucket_policy(Bucket=said["Bucket"], Policy=json.dumps(said["PolicyDocument"]))
        for name, said in self.properties("AWS::SQS::QueuePolicy"):
            address = sqs.create_queue(QueueName=name)["QueueUrl"]
            sqs.set_queue_attributes(QueueUrl=address, Attributes={"Policy": json.dumps(said["PolicyDocument"])})

    def functions(self) -> None:
        """Checks names and types only: botocore refuses what the service does not know before anything is sent."""
        model = boto3.client("lambda").meta.service_model.operation_model("PutFunctionEventInvokeConfig").input_shape
        from botocore.validate import ParamValidator

        for one in self.stack.of("AWS::Serverless::Function"):
            said = copy.deepcopy(one.get("EventInvokeConfig"))
            if said is None:
                continue
            self.done.add("AWS::Lambda::EventInvokeConfig")
            for destination in said.get("DestinationConfig", {}).values():
                assert destination.pop("Type") == "SQS"  # SAM's own: it says which action the role needs
            report = ParamValidator().validate({"FunctionName": one["FunctionName"], **said}, model)
            assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_the_services_take_what_cloudformation_skips_here(configuration: str) -> None:
    stack = Stack(read(), CONFIGURATIONS[configuration])
    replay = Replay(stack)
    with mock_aws(), strict():
        for part in (replay.api, replay.scaling, replay.alarms, replay.logs, replay.topics, replay.subscriptions):
            part()
        replay.secret()
        replay.policies()
        replay.functions()
    present = {one.kind for one in stack.resources.values()}
    assert SKIPPED & present <= replay.done
