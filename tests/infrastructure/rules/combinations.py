"""Combinations of parameters: CloudFormation refuses the wrong ones before it makes anything, and takes the right."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

from botocore.session import get_session

from tests.infrastructure.rulebook import rule, states
from tests.infrastructure.stack import Stack

_GPU = ("ml.g", "ml.p")
_COS = {"StoreEndpoint": "https://x", "StoreCredentials": "arn", "EngineStore": "s3://e", "ImageStore": "s3://i"}
_MOST_LEAST = 10  # MinInstances at most


@rule
def rules_refuse_what_cannot_work(stack: Stack) -> Iterator[str]:
    """Each wrong combination is refused once, saying why, and no right one is."""
    for said in stack.refused():
        yield f"refused: {said}"
    parts = {name: stack.template[name] for name in ("Parameters", "Mappings", "Rules", "Conditions")}
    yield from _misjudged(json.dumps(parts))
    for said in stack.template["Rules"].values():
        for one in said["Assertions"]:
            yield from states("a rule", one, "AssertDescription")


@functools.lru_cache(maxsize=4)
def _misjudged(parts: str) -> tuple[str, ...]:
    """Kept by what decides it: there are hundreds of combinations, and a mutant mostly changes something else."""
    template, found = json.loads(parts), []
    for parameters, times in [*((one, 1) for one in _wrong()), *((one, 0) for one in _right())]:
        refused = len(Stack(template, parameters).refused())
        if refused != times:
            found.append(f"{parameters} is refused {refused} times")
    return tuple(found)


def _wrong() -> Iterator[dict[str, Any]]:
    yield {"EndpointType": "real-time", "MinInstances": 0}
    yield {"Rollout": "canary", "MinInstances": 0}
    yield {"Rollout": "canary", "MinInstances": 1}
    yield {"Access": "jwt", "JwtAudience": "a"}
    yield {"Access": "jwt", "JwtIssuer": "https://i"}
    for left in _COS.keys() - {"StoreEndpoint"}:
        yield {name: value for name, value in _COS.items() if name != left}
    for most in range(1, _MOST_LEAST):
        yield from ({"MinInstances": least, "MaxInstances": most} for least in range(most + 1, _MOST_LEAST + 1))
    gpus, others = instance_types()
    yield from ({"InstanceType": one, "InferenceAmi": "none"} for one in gpus)
    yield from ({"InstanceType": one} for one in others)


def _right() -> Iterator[dict[str, Any]]:
    for most in (*range(1, _MOST_LEAST + 2), 100):
        yield from ({"MinInstances": least, "MaxInstances": most} for least in range(min(most, _MOST_LEAST) + 1))
    gpus, others = instance_types()
    yield from ({"InstanceType": one} for one in gpus)
    yield from ({"InstanceType": one, "InferenceAmi": "none"} for one in others)


def instance_types() -> tuple[list[str], list[str]]:
    """Every type that SageMaker offers for an endpoint, as botocore's model has them: with NVIDIA's GPUs, and not."""
    offered = get_session().get_service_model("sagemaker").shape_for("ProductionVariantInstanceType").enum
    gpus = [one for one in offered if one.startswith(_GPU)]
    return gpus, [one for one in offered if one not in gpus]
