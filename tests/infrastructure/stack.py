"""The template as it would be deployed: read, Globals merged in, and its functions evaluated for given parameters."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HOME = "us-east-1"


def pseudo(region: str) -> dict[str, str]:
    """CloudFormation's pseudo parameters in a region."""
    china = region.startswith("cn-")
    return {
        "AWS::Partition": "aws-cn" if china else "aws-us-gov" if region.startswith("us-gov-") else "aws",
        "AWS::Region": region,
        "AWS::AccountId": "123456789012",
        "AWS::StackName": "stack",
        "AWS::URLSuffix": "amazonaws.com.cn" if china else "amazonaws.com",
    }


IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/darkroom:1"
_COS_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:cos"
# Every branch of every condition is taken by one of these.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "before a bundle is published": {},
    "async, to zero": {"ContainerImage": IMAGE},
    "async, always one, without GPU": {
        "ContainerImage": IMAGE,
        "MinInstances": 1,
        "InstanceType": "ml.c7i.2xlarge",
        "InferenceAmi": "none",
        "AlarmEmail": "someone@example.com",
        "LogLevel": "DEBUG",
        "LogDays": 365,
        "ImageDays": 7,
        "Autoscaling": "off",
        "TrustedKeys": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "ThrottleRate": 5,
        "ThrottleBurst": 9,
    },
    "real-time, canary, tokens": {
        "ContainerImage": IMAGE,
        "EndpointType": "real-time",
        "MinInstances": 2,
        "MaxInstances": 6,
        "Rollout": "canary",
        "Access": "jwt",
        "JwtIssuer": "https://issuer.example",
        "JwtAudience": "darkroom",
    },
    "Tencent COS, signatures": {
        "ContainerImage": IMAGE,
        "Access": "iam",
        "LogLevel": "WARNING",
        "MaxWaiting": 50,
        "ReservedExecutions": 20,
        "StoreEndpoint": "https://cos.ap-guangzhou.myqcloud.com",
        "StoreRegion": "ap-guangzhou",
        "StoreAddressing": "virtual",
        "StoreCredentials": _COS_SECRET,
        "EngineStore": "s3://engines-1250000000",
        "ImageStore": "s3://images-1250000000/darkroom",
    },
}
_NOTHING = object()  # what !Ref AWS::NoValue leaves


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags."""


def _short_tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_tag)


def read(path: Path = ROOT / "template.yaml") -> dict[str, Any]:
    """The template as nested dicts and lists, nothing shared between its parts."""
    with path.open(encoding="utf-8") as source:
        return _unshared(yaml.load(source, _Loader))  # noqa: S506 (a SafeLoader)


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(member) for key, member in value.items()}
    return [_unshared(member) for member in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Resource:
    """One resource of a stack, evaluated."""

    name: str
    kind: str
    properties: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.properties[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        return self.properties.get(name, otherwise)


class Stack:
    """What a deployment with these parameters consists of. Raises KeyError, ValueError for what cannot be evaluated."""

    def __init__(self, template: Mapping[str, Any], parameters: Mapping[str, Any], region: str = HOME) -> None:
        self.template = template
        self.pseudo = pseudo(region)
        self.given = parameters
        declared = template["Parameters"]
        unknown = parameters.keys() - declared.keys()
        if unknown:
            raise ValueError(f"no parameter {unknown}")
        self.parameters = {name: str(parameters.get(name, said["Default"])) for name, said in declared.items()}
        self.conditions = functools.cache(self._condition)

    @functools.cached_property
    def resources(self) -> dict[str, Resource]:
        """Those that exist with these parameters, by name."""
        declared = self.template["Resources"]
        return {name: self._resource(name, said) for name, said in declared.items() if self._exists(said)}

    @functools.cached_property
    def outputs(self) -> dict[str, Any]:
        """Those that exist with these parameters, by name."""
        declared = self.template["Outputs"]
        return {name: self.value(said["Value"]) for name, said in declared.items() if self._exists(said)}

    def of(self, kind: str) -> Iterator[Resource]:
        """All resources of one type, in the order of the template."""
        return (one for one in self.resources.values() if one.kind == kind)

    def functions(self) -> dict[str, Resource]:
        """`api` -> the resource of functions/api.py."""
        return {one["Handler"].split(".")[1]: one for one in self.of("AWS::Serverless::Function")}

    def refused(self) -> list[str]:
        """What the template's own Rules say against these parameters."""
        said = []
        for rule in self.template["Rules"].values():
            if "RuleCondition" not in rule or self._holds(rule["RuleCondition"]):
                said += [one["AssertDescription"] for one in rule["Assertions"] if not self._holds(one["Assert"])]
        return said

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def _exists(self, said: Mapping[str, Any]) -> bool:
        return "Condition" not in said or self.conditions(said["Condition"])

    def _resource(self, name: str, said: Mapping[str, Any]) -> Resource:
        properties = said.get("Properties", {})
        if said["Type"] == "AWS::Serverless::Function":
            properties = _merged(self.template["Globals"]["Function"], properties)
        attributes = {key: value for key, value in said.items() if key not in ("Type", "Properties")}
        return Resource(name, said["Type"], self.value(properties), attributes)

    def _condition(self, name: str) -> bool:
        return self._holds(self.template["Conditions"][name])

    def _holds(self, said: Any) -> bool:
        ((function, arguments),) = said.items()
        if function == "Condition":
            return self.conditions(arguments)
        if function == "Fn::Equals":
            left, right = (str(self.value(one)) for one in arguments)
            return left == right
        if function == "Fn::Contains":
            return str(self.value(arguments[1])) in arguments[0]
        if function == "Fn::Not":
            return not self._holds(arguments[0])
        if function == "Fn::Or":
            return any(self._holds(one) for one in arguments)
        if function == "Fn::And":
            return all(self._holds(one) for one in arguments)
        raise ValueError(f"no such condition function: {function}")

    def value(self, said: Any) -> Any:
        """A value with its functions evaluated."""
        if isinstance(said, list):
            return [value for one in said if (value := self.value(one)) is not _NOTHING]
        if not isinstance(said, dict):
            return said
        if len(said) == 1:
            ((function, argument),) = said.items()
            if function == "Ref":
                return self._ref(argument)
            if function == "Fn::GetAtt":
                return self._attribute(*argument)
            if function == "Fn::Sub":
                text, given = (argument, {}) if isinstance(argument, str) else argument
                for key, one in given.items():
                    text = text.replace(f"${{{key}}}", str(self.value(one)))
                return re.sub(r"\$\{([\w:]+)(?:\.([\w.]+))?\}", self._substituted, text)
            if function == "Fn::FindInMap":
                name, first, second = (self.value(one) for one in argument)
                return self.template["Mappings"][name][first][second]
            if function == "Fn::If":
                return self.value(argument[1] if self.conditions(argument[0]) else argument[2])
        return {key: value for key, one in said.items() if (value := self.value(one)) is not _NOTHING}

    def _substituted(self, match: re.Match[str]) -> str:
        return str(self._attribute(match[1], match[2]) if match[2] else self._ref(match[1]))

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.parameters:
            said = self.template["Parameters"][name]
            return int(self.parameters[name]) if said["Type"] == "Number" else self.parameters[name]
        return _identity(name, self._alive(name), self)[0]

    def _attribute(self, name: str, attribute: str) -> Any:
        found = _identity(name, self._alive(name), self)[1]
        return found[attribute]

    def _alive(self, name: str) -> Mapping[str, Any]:
        said = self.template["Resources"][name]
        if not self._exists(said):
            raise ValueError(f"{name} is named where it does not exist")
        return said


def _identity(name: str, said: Mapping[str, Any], stack: Stack) -> tuple[str, dict[str, str]]:
    """What Ref and GetAtt give for a resource: `{name}-id` stands for a name that AWS generates."""
    kind, properties = said["Type"], said.get("Properties", {})
    generated = f"{name.lower()}-id"
    partition, region, suffix = (stack.pseudo[f"AWS::{one}"] for one in ("Partition", "Region", "URLSuffix"))

    def named(key: str) -> str:
        return str(stack.value(properties[key]))

    def arn(service: str, rest: str) -> str:
        return f"arn:{partition}:{service}:{region}:123456789012:{rest}"

    if kind == "AWS::S3::Bucket":
        return generated, {"Arn": f"arn:{partition}:s3:::{generated}"}
    if kind == "AWS::DynamoDB::Table":
        return generated, {"Arn": arn("dynamodb", f"table/{generated}")}
    if kind == "AWS::IAM::Role":
        return generated, {"Arn": f"arn:{partition}:iam::123456789012:role/{generated}"}
    if kind == "AWS::Serverless::Function":
        return named("FunctionName"), {"Arn": arn("lambda", f"function:{named('FunctionName')}")}
    if kind == "AWS::Logs::LogGroup":
        return named("LogGroupName"), {"Arn": arn("logs", f"log-group:{named('LogGroupName')}:*")}
    if kind == "AWS::SQS::Queue":
        address = f"https://sqs.{region}.{suffix}/123456789012/{generated}"
        return address, {"Arn": arn("sqs", generated), "QueueName": generated}
    if kind == "AWS::SNS::Topic":
        return arn("sns", generated), {"TopicName": generated}
    if kind == "AWS::SecretsManager::Secret":
        return arn("secretsmanager", f"secret:{generated}"), {}
    if kind == "AWS::Events::Rule":
        return generated, {"Arn": arn("events", f"rule/{generated}")}
    if kind == "AWS::CloudWatch::Alarm":
        return named("AlarmName"), {"Arn": arn("cloudwatch", f"alarm:{named('AlarmName')}")}
    if kind == "AWS::ApiGatewayV2::Api":
        return generated, {"ApiEndpoint": f"https://{generated}.execute-api.{region}.{suffix}"}
    if kind == "AWS::SageMaker::Model":
        return arn("sagemaker", f"model/{generated}"), {"ModelName": generated}
    if kind == "AWS::SageMaker::EndpointConfig":
        return arn("sagemaker", f"endpoint-config/{generated}"), {"EndpointConfigName": generated}
    return generated, {}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As SAM merges Globals: maps are joined, lists are added up, anything else is replaced."""
    both = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(both.get(key), dict):
            both[key] = _merged(both[key], value)
        elif isinstance(value, list) and isinstance(both.get(key), list):
            both[key] = both[key] + value
        else:
            both[key] = value
    return both
