"""Application Auto Scaling as strict as the service: moto's, which stores whatever it is told, with what is refused.

What is refused, and the sentences: the API Reference (docs.aws.amazon.com/autoscaling/application/APIReference/,
RegisterScalableTarget, PutScalingPolicy, PutScheduledAction, DeregisterScalableTarget) and, of a second policy for one
metric, what users report of the service (hashicorp/terraform-provider-aws #34408, cdklabs/cdk-ecs-service-extensions
#35). Names and types are checked by botocore before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from moto.applicationautoscaling.exceptions import AWSValidationException
from moto.applicationautoscaling.models import ApplicationAutoscalingBackend as Backend
from moto.core.exceptions import JsonRESTError

_SPECIFICATIONS = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
_put_policy = Backend.put_scaling_policy
_put_action = Backend.put_scheduled_action
_register = Backend.register_scalable_target
_deregister = Backend.deregister_scalable_target


@contextmanager
def strict() -> Iterator[None]:
    """For as long as this is open every moto of the process refuses what the service refuses."""
    with patch.multiple(
        Backend,
        put_scaling_policy=_putting_policy,
        put_scheduled_action=_putting_action,
        register_scalable_target=_registering,
        deregister_scalable_target=_deregistering,
    ):
        yield


def _putting_policy(backend: Backend, **said: Any) -> Any:
    resource, body = said["resource_id"], said["policy_body"]
    _must_be_registered(backend, said["service_namespace"], resource, said["scalable_dimension"])
    if said["policy_type"] == "TargetTrackingScaling":
        for other in backend.policies.values():
            tracks = other.resource_id == resource and other.policy_name != said["policy_name"]
            if tracks and _metric(other.target_tracking_scaling_policy_configuration or {}) == _metric(body):
                raise AWSValidationException(
                    "Only one TargetTrackingScaling policy for a given metric specification is allowed."
                )
        said["policy_body"] = {"DisableScaleIn": False, **body}  # as it is described afterwards
    return _put_policy(backend, **said)


def _putting_action(backend: Backend, **said: Any) -> None:
    _must_be_registered(backend, said["service_namespace"], said["resource_id"], said["scalable_dimension"])
    limits = said["scalable_target_action"] or {}
    _in_order(limits.get("MinCapacity"), limits.get("MaxCapacity"))
    _put_action(backend, **said)


def _registering(backend: Backend, namespace: str, resource: str, dimension: str, **said: Any) -> Any:
    limits = (said["min_capacity"], said["max_capacity"])
    _in_order(*limits)
    if resource not in backend.targets.get(dimension, {}) and None in limits:
        raise AWSValidationException("MinCapacity and MaxCapacity are required to register a new scalable target.")
    return _register(backend, namespace, resource, dimension, **said)


def _deregistering(backend: Backend, namespace: str, resource: str, dimension: str) -> None:
    """ "Deregistering a scalable target deletes the scaling policies and the scheduled actions"."""
    _deregister(backend, namespace, resource, dimension)
    backend.policies = {key: one for key, one in backend.policies.items() if one.resource_id != resource}
    backend.scheduled_actions = [one for one in backend.scheduled_actions if one.resource_id != resource]


def _metric(configuration: dict[str, Any]) -> dict[str, Any]:
    return {name: configuration[name] for name in _SPECIFICATIONS if name in configuration}


def _must_be_registered(backend: Backend, namespace: str, resource: str, dimension: str) -> None:
    if resource not in backend.targets.get(dimension, {}):
        raise JsonRESTError(
            "ObjectNotFoundException",
            f"No scalable target registered for service namespace: {namespace}, resource ID: {resource}, scalable "
            f"dimension: {dimension}",
        )


def _in_order(least: int | None, most: int | None) -> None:
    if least is not None and most is not None and least > most:
        raise AWSValidationException(f"Maximum capacity cannot be less than minimum capacity: {most} < {least}")
