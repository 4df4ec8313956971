"""Parameters: explained, bounded, grouped for the form, used; and every part of the template is needed somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.infrastructure.rulebook import rule, states, wants
from tests.infrastructure.stack import CONFIGURATIONS, Stack

# Free text, checked by what it is given to.
FREE = {"Administrators", "JwtAudience", "StoreRegion", "TrustedKeys"}
# A value that each bounded parameter must refuse.
REFUSED: dict[str, list[Any]] = {
    "Deployment": ["", "Upper", "9first", "a" * 21, "with_underscore"],
    "ModelName": ["", "Upper", "-dash", "dot.ted", "a" * 31],
    "ContainerImage": ["docker.io/library/python:3", "image", "123456789012.dkr.ecr.us-east-1.amazonaws.com/untagged"],
    "EndpointType": ["serverless"],
    "InstanceType": ["g5.xlarge", ""],
    "InferenceAmi": ["", "latest"],
    "MinInstances": [-1, 11],
    "MaxInstances": [0, 101],
    "BacklogPerInstance": [0, 1001],
    "Autoscaling": ["", "auto"],
    "Rollout": ["linear"],
    "Access": ["open"],
    "JwtIssuer": ["http://plain.example", "issuer"],
    "ThrottleRate": [0, 10_001],
    "ThrottleBurst": [0, 5001],
    "MaxWaiting": [0, 1001],
    "ReservedExecutions": [-1, 1001],
    "ImageDays": [0, 3651],
    "LogDays": [0, 2],
    "LogLevel": ["info", "TRACE"],
    "AlarmEmail": ["nobody", "a b@c"],
    "SlowSeconds": [0, 3601],
    "BacklogMinutes": [4, 361],
    "StoreEndpoint": ["http://plain.example", "https://host/path"],
    "StoreAddressing": ["dns"],
    "StoreCredentials": ["a-name", "arn:aws:s3:::bucket"],
    "EngineStore": ["https://bucket", "bucket"],
    "ImageStore": ["https://bucket", "bucket"],
}


# Every choice that what it is given to understands.
CHOICES: dict[str, set[Any]] = {
    "EndpointType": {"async", "real-time"},
    "InferenceAmi": {"none", "al2-ami-sagemaker-inference-gpu-3-1", "al2023-ami-sagemaker-inference-gpu-4-1"},
    "Autoscaling": {"on", "off"},
    "Rollout": {"all-at-once", "canary"},
    "Access": {"api-key", "jwt", "iam"},
    "LogDays": {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 3653},
    "LogLevel": {"DEBUG", "INFO", "WARNING", "ERROR"},
    "StoreAddressing": {"auto", "virtual", "path"},
}


def _takes(said: dict[str, Any], value: Any) -> bool:
    if "AllowedValues" in said and str(value) not in [str(one) for one in said["AllowedValues"]]:
        return False
    if "AllowedPattern" in said and not re.search(said["AllowedPattern"], str(value)):
        return False
    return not ("MinValue" in said and value < said["MinValue"]) and not (
        "MaxValue" in said and value > said["MaxValue"]
    )


@rule
def parameters_are_explained_and_bounded(stack: Stack) -> Iterator[str]:
    """Each says what it means, has a default that it takes itself, and refuses what cannot work, saying why."""
    declared = stack.template["Parameters"]
    for name, said in declared.items():
        yield from states(name, said, "Type", "Description")
        yield from wants("Default" in said, f"{name} has no default")
        numbers = said["Type"] == "Number"
        yield from wants(numbers == isinstance(said["Default"], int), f"{name} is no {said['Type']}")
        yield from wants(_takes(said, said["Default"]), f"{name} refuses its own default")
        yield from wants(bool(REFUSED.get(name)) != (name in FREE), f"{name} is neither bounded nor free")
        for value in REFUSED.get(name, []):
            yield from wants(not _takes(said, value), f"{name} takes {value!r}")
        if "AllowedPattern" in said:
            yield from states(name, said, "ConstraintDescription")
        yield from wants(set(said.get("AllowedValues", [])) == CHOICES.get(name, set()), f"{name}: other choices")
    for configuration, parameters in CONFIGURATIONS.items():
        for name, value in parameters.items():
            yield from wants(_takes(declared[name], value), f"{name} refuses {value!r} of {configuration}")


@rule
def parameters_are_in_the_form_and_used(stack: Stack) -> Iterator[str]:
    """Each stands in one labelled group of the console's form; nothing is declared that nothing reads."""
    groups = stack.template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    yield from wants(sorted(shown) == sorted(stack.template["Parameters"]), "the form shows other parameters")
    for group in groups:
        yield from states("a group", group, "Label.default")
    text = str({key: stack.template[key] for key in ("Rules", "Conditions", "Globals", "Resources", "Outputs")})
    for name in stack.template["Parameters"]:
        used = f"'Ref': '{name}'" in text or f"${{{name}}}" in text
        yield from wants(used, f"nothing reads {name}")
    for name in stack.template["Conditions"]:
        used = re.search(rf"'(?:Condition|Fn::If)': \[?'{name}'", text)
        yield from wants(bool(used), f"nothing depends on {name}")


@rule
def the_template_says_what_it_is(stack: Stack) -> Iterator[str]:
    """Format, transform and a description that fits CloudFormation's 1,024 bytes."""
    said = stack.template
    yield from wants(said["AWSTemplateFormatVersion"] == "2010-09-09", "another format")
    yield from wants(said["Transform"] == "AWS::Serverless-2016-10-31", "no SAM template")
    yield from wants(0 < len(said["Description"]) <= 1024, "no description")
