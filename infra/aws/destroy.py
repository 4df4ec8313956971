"""`make destroy`: delete a stack, then what its functions made and CloudFormation does not know; say what stays.

Releases make SageMaker models and endpoint configurations, and scaling makes alarms. Data stay: buckets and tables.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAM = Path(sys.executable).parent / "sam"


def leftovers(endpoint: str, sagemaker: Any, cloudwatch: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of what a release or scaling made for an endpoint; kind is model, endpoint-config or alarm.

    The names are those of `darkroom.release.fleet.named` and `ScalableEndpoint.prefix`: another endpoint's, whose name
    begins with this one's, has more parts.
    """
    made = re.compile(rf"{re.escape(endpoint)}-(?:[0-9a-f]*-)?[0-9a-f]{{8}}")
    lists = [
        ("model", sagemaker, "list_models", "Models", "ModelName"),
        ("endpoint-config", sagemaker, "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
    ]
    for kind, client, operation, key, name in lists:
        for page in client.get_paginator(operation).paginate():
            yield from ((kind, one[name]) for one in page[key] if made.fullmatch(one[name]))
    for page in cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"darkroom.{endpoint}."):
        yield from (("alarm", one["AlarmName"]) for one in page["MetricAlarms"])


def remove(endpoint: str, sagemaker: Any, cloudwatch: Any) -> list[tuple[str, str]]:
    """Delete the leftovers of an endpoint that is gone, and say which. Raises: SystemExit where it is still there."""
    if _is_there(endpoint, sagemaker):
        raise SystemExit(f"The endpoint {endpoint} still exists; delete the stack first.")
    found = list(leftovers(endpoint, sagemaker, cloudwatch))
    for kind, name in found:
        if kind == "model":
            sagemaker.delete_model(ModelName=name)
        elif kind == "endpoint-config":
            sagemaker.delete_endpoint_config(EndpointConfigName=name)
        else:
            cloudwatch.delete_alarms(AlarmNames=[name])
    return found


def _is_there(endpoint: str, sagemaker: Any) -> bool:
    from botocore.exceptions import ClientError

    try:
        sagemaker.describe_endpoint(EndpointName=endpoint)
    except ClientError as refused:
        if "Could not find" in refused.response["Error"].get("Message", ""):
            return False
        raise
    return True


def described(stack: str, cloudformation: Any) -> tuple[str, list[str]]:
    """The endpoint of a stack, and what outlives it. Raises: SystemExit where there is no such stack."""
    from botocore.exceptions import ClientError

    try:
        outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    except ClientError as refused:
        if "does not exist" not in refused.response["Error"].get("Message", ""):
            raise
        sys.exit(f"There is no stack {stack} here. Name it: make destroy STACK=NAME; or clean up: ENDPOINT=NAME.")
    endpoint = next((one["OutputValue"] for one in outputs if one["OutputKey"] == "EndpointName"), "")
    kept = [
        f"{one['ResourceType'].removeprefix('AWS::')} {one['PhysicalResourceId']}"
        for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
        for one in page["StackResourceSummaries"]
        if one["ResourceType"] in ("AWS::S3::Bucket", "AWS::DynamoDB::Table")
    ]
    return endpoint, kept


def main() -> None:
    import boto3

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", default="darkroom", help="its name, as you answered `make deploy`")
    parser.add_argument("--endpoint", default="", help="of a stack that is gone already: clean up after it alone")
    asked = parser.parse_args()
    endpoint, kept = asked.endpoint, []
    if not endpoint:
        endpoint, kept = described(asked.stack, boto3.client("cloudformation"))
        if subprocess.run([SAM, "delete", "--stack-name", asked.stack], check=False).returncode:
            sys.exit("The stack was not deleted; nothing else was touched.")
    for kind, name in remove(endpoint, boto3.client("sagemaker"), boto3.client("cloudwatch")):
        print(f"deleted {kind} {name}")
    for one in kept:
        print(f"kept    {one}")
    print("What was kept holds your data. Delete it by hand if you mean to.")


if __name__ == "__main__":
    main()
