"""What SageMaker says of an endpoint -> which versions it runs; a goal -> the arguments that bring it about. Pure.

Everything is copied from what the endpoint uses now, and the version alone is changed (docs/decisions/026), so that the
same goal gives the same names however often it is begun.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from darkroom.release.state import UNPINNED, TrafficSplit

Described = Mapping[str, Any]
MAIN, BESIDE = "AllTraffic", "Beside"  # variants; scaling is the first one's
VERSION = "RUNTIME_VERSION"  # what tells a container its version
LONGEST_NAME = 63
WAIT_SECONDS = 300  # between two steps of a shift, and before the old instances go
MOST_SECONDS = 7200  # of a deployment
_MODEL = ("PrimaryContainer", "ExecutionRoleArn", "VpcConfig", "EnableNetworkIsolation")
_CONFIG = (
    "AsyncInferenceConfig",
    "DataCaptureConfig",
    "KmsKeyId",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
)

Shift = Literal["canary", "linear"]


def traffic_of(config: Described, models: Mapping[str, Described], weights: Mapping[str, float]) -> TrafficSplit | None:
    """What an endpoint configuration runs; None where it is not laid out as ours are.

    `models` are the configuration's, by name; `weights` are the variants' now, where the configuration's are not.
    """
    variants = {one["VariantName"]: one for one in config["ProductionVariants"]}
    if MAIN not in variants or variants.keys() - {MAIN, BESIDE}:
        return None
    version = {name: version_of(models[one["ModelName"]]) for name, one in variants.items()}
    if BESIDE not in variants:
        return TrafficSplit(version[MAIN])
    weight = {name: weights.get(name, one.get("InitialVariantWeight", 1.0)) for name, one in variants.items()}
    total = sum(weight.values())
    return TrafficSplit(version[MAIN], version[BESIDE], round(100 * weight[BESIDE] / total) if total else 0)


def version_of(model: Described) -> str:
    """The version that a model's container is told, or UNPINNED."""
    environment = model.get("PrimaryContainer", {}).get("Environment", {})
    return str(environment.get(VERSION, UNPINNED))


def model_for(version: str, model: Described) -> dict[str, Any]:
    """The same model with another version, as `create_model` takes it but for the name."""
    arguments = {name: model[name] for name in _MODEL if model.get(name)}
    container = arguments["PrimaryContainer"]
    environment = {**container.get("Environment", {}), VERSION: version}
    return arguments | {"PrimaryContainer": {**container, "Environment": environment}}


def config_for(
    traffic: TrafficSplit, config: Described, models: Mapping[str, str], instances: Mapping[str, int]
) -> dict[str, Any]:
    """The same configuration for other traffic, as `create_endpoint_config` takes it but for the name.

    `models` names the model of each version. As many `instances` as each variant has now, and at least one: even an
    endpoint that sleeps is changed awake.
    """
    (main,) = (one for one in config["ProductionVariants"] if one["VariantName"] == MAIN)
    shares = {MAIN: 100 - traffic.percent, BESIDE: traffic.percent}
    names = (MAIN, BESIDE)[: len(traffic.versions)]
    variants = [
        {
            **main,
            "VariantName": name,
            "ModelName": models[version],
            "InitialInstanceCount": max(1, instances.get(name, 1)),
            "InitialVariantWeight": float(shares[name]),
        }
        for name, version in zip(names, traffic.versions, strict=True)
    ]
    return {name: config[name] for name in _CONFIG if config.get(name)} | {"ProductionVariants": variants}


def named(endpoint: str, version: str, arguments: Mapping[str, Any]) -> str:
    """A name for what these arguments make: the endpoint's, as much of the version as fits, and a digest of them."""
    digest = hashlib.sha256(json.dumps([version, arguments], sort_keys=True, default=str).encode()).hexdigest()[:8]
    room = LONGEST_NAME - len(endpoint) - len(digest) - 2
    return f"{endpoint}-{version[:room]}-{digest}" if room > 0 else f"{endpoint}-{digest}"[-LONGEST_NAME:]


def deployment(
    config: Mapping[str, Any], *, careful: bool, alarms: Sequence[str], shift: Shift = "canary"
) -> dict[str, Any]:
    """How traffic moves to a configuration of `config_for`: the `DeploymentConfig` of `update_endpoint`.

    Step by step takes two instances of each variant: a canary is at most half of them, a linear step 10 to 50 %.
    """
    least = min(one["InitialInstanceCount"] for one in config["ProductionVariants"])
    routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": WAIT_SECONDS if careful else 0}
    if careful and least >= 2 and shift == "canary":
        size = {"Type": "INSTANCE_COUNT", "Value": 1}
        routing = {"Type": "CANARY", "WaitIntervalInSeconds": WAIT_SECONDS, "CanarySize": size}
    elif careful and least >= 2:
        size = {"Type": "INSTANCE_COUNT", "Value": max(1, least // 4)}
        routing = {"Type": "LINEAR", "WaitIntervalInSeconds": WAIT_SECONDS, "LinearStepSize": size}
    arguments: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": WAIT_SECONDS if careful else 0,
            "MaximumExecutionTimeoutInSeconds": MOST_SECONDS,
        }
    }
    if careful and alarms:
        arguments["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in alarms[:10]]}
    return arguments
