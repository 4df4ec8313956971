"""The executors by name: each renders a policy into what its engine would be told, for a person to read beforehand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from darkroom.scaling.policy import ScalingPolicy
from darkroom.scaling.timeline import Timeline

Render = Callable[[ScalingPolicy, Timeline, str], Any]


def _application_autoscaling(policy: ScalingPolicy, line: Timeline, model: str, *, asynchronous: bool = True) -> Any:
    from darkroom.scaling.application_autoscaling import ScalableEndpoint, compile_policy, described

    return described(compile_policy(policy, line, ScalableEndpoint(model, asynchronous=asynchronous)), line.start)


def _keda(policy: ScalingPolicy, line: Timeline, model: str) -> Any:
    from darkroom.scaling.keda import Workload, compile_policy

    return compile_policy(policy, line, Workload(model))


def _pool(_: ScalingPolicy, line: Timeline, model: str) -> Any:
    limits = [{"at": point.at.isoformat(), "min": point.min, "max": point.max} for point in line.changes()]
    return {"pool": model, "limits": limits}


EXECUTORS: dict[str, Render] = {
    "application-autoscaling": _application_autoscaling,
    "application-autoscaling-real-time": partial(_application_autoscaling, asynchronous=False),
    "keda": _keda,
    "pool": _pool,
}


def render(executor: str, policy: ScalingPolicy, line: Timeline, model: str) -> Any:
    """JSON values: AWS requests, a Kubernetes manifest, or the pool's limits.

    Raises: InvalidPolicy where the engine cannot follow the policy, ValueError for an unknown executor.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"no executor {executor}; use one of {', '.join(EXECUTORS)}")
    return EXECUTORS[executor](policy, line, model)
