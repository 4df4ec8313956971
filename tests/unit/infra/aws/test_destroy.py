"""What a stack leaves behind: what its releases and its scaling made is deleted, a neighbour's and all data are not."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from darkroom.release.fleet import named
from darkroom.release.state import UNPINNED
from darkroom.scaling.application_autoscaling import ScalableEndpoint

SOURCE = Path(__file__).parents[4] / "infra" / "aws" / "destroy.py"
ENDPOINT, NEIGHBOUR = "darkroom-crayon", "darkroom-crayon-0123"
VERSION = "0123456789abcdef"


@pytest.fixture
def destroy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("destroy", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield boto3.client("sagemaker"), boto3.client("cloudwatch")


def made(account: tuple[Any, Any], name: str) -> None:
    sagemaker, _ = account
    image = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/runtime:1"}
    role = "arn:aws:iam::123456789012:role/r"
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=image)
    variant = {"VariantName": "v", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.g4dn.xlarge"}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


def alarm(account: tuple[Any, Any], name: str) -> None:
    said = {"MetricName": "m", "Namespace": "n", "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold"}
    account[1].put_metric_alarm(AlarmName=name, EvaluationPeriods=1, Period=60, Statistic="Sum", **said)


def test_what_releases_and_scaling_made_is_found_and_no_neighbours(
    destroy: ModuleType, account: tuple[Any, Any]
) -> None:
    ours = [named(ENDPOINT, version, {"a": version}) for version in (VERSION, "f" * 16, UNPINNED)]
    theirs = [named(NEIGHBOUR, VERSION, {}), "model-of-the-stack", f"{ENDPOINT}-by-hand"]
    for name in (*ours, *theirs):
        made(account, name)
    for endpoint in (ENDPOINT, NEIGHBOUR):
        alarm(account, f"{ScalableEndpoint(endpoint).prefix}wake")
    gone = destroy.remove(ENDPOINT, *account)
    wanted = [*(("model", one) for one in ours), *(("endpoint-config", one) for one in ours)]
    assert sorted(gone) == sorted([*wanted, ("alarm", f"darkroom.{ENDPOINT}.wake")])
    assert {one["ModelName"] for one in account[0].list_models()["Models"]} == set(theirs)
    assert [one["AlarmName"] for one in account[1].describe_alarms()["MetricAlarms"]] == [f"darkroom.{NEIGHBOUR}.wake"]
    assert destroy.remove(ENDPOINT, *account) == []


def test_an_endpoint_that_is_there_keeps_what_it_runs(destroy: ModuleType, account: tuple[Any, Any]) -> None:
    name = named(ENDPOINT, VERSION, {})
    made(account, name)
    account[0].create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=name)
    with pytest.raises(SystemExit, match="still exists"):
        destroy.remove(ENDPOINT, *account)
    assert account[0].list_models()["Models"]


def test_a_stack_says_its_endpoint_and_what_outlives_it(destroy: ModuleType, account: tuple[Any, Any]) -> None:
    cloudformation = boto3.client("cloudformation")
    template = """
Resources:
  Images: {Type: AWS::S3::Bucket, Properties: {BucketName: images-1}}
  Told: {Type: AWS::SNS::Topic}
Outputs:
  EndpointName: {Value: darkroom-crayon}
"""
    cloudformation.create_stack(StackName="darkroom", TemplateBody=template)
    assert destroy.described("darkroom", cloudformation) == (ENDPOINT, ["S3::Bucket images-1"])
    with pytest.raises(SystemExit, match="no stack other here"):
        destroy.described("other", cloudformation)
