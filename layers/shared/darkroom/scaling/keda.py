"""A policy -> a KEDA ScaledObject: Kubernetes' own autoscaler decides, from marks of time and Prometheus.

One formula joins them: demand is the most any metric asks for, and the mark in force gives its floor and its cap. KEDA
itself has no cap by time (`maxReplicaCount` is one number), and its cron triggers only ever add replicas.
Needs KEDA 2.17 or newer (`fallback.behavior`); from 2.19 on the fallback also wakes a pool at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from darkroom.errors import InvalidPolicy
from darkroom.scaling.keda_triggers import HORIZON, Mark, base, marks
from darkroom.scaling.policy import Metric, MetricName, ScalingPolicy
from darkroom.scaling.timeline import Timeline

MOST_TRIGGERS = 200
# Percent by pod from NVIDIA's DCGM exporter, cAdvisor and kube-state-metrics; the rest we export ourselves.
QUERIES: dict[MetricName, str] = {
    "gpu": 'DCGM_FI_DEV_GPU_UTIL{pod=~"NAME-.*"}',
    "cpu": '100 * sum by (pod) (rate(container_cpu_usage_seconds_total{pod=~"NAME-.*", container!=""}[1m]))'
    ' / sum by (pod) (kube_pod_container_resource_limits{pod=~"NAME-.*", resource="cpu"})',
    "memory": '100 * sum by (pod) (container_memory_working_set_bytes{pod=~"NAME-.*", container!=""})'
    ' / sum by (pod) (kube_pod_container_resource_limits{pod=~"NAME-.*", resource="memory"})',
    "requests_per_second": 'sum(rate(darkroom_runtime_requests_total{job="NAME"}[1m]))',
    "queue_depth": 'sum(darkroom_jobs{status=~"queued|running"})',
    "latency": 'darkroom_runtime_request_seconds_SERIES{job="NAME"}',
}


@dataclass(frozen=True)
class Workload:
    """What is scaled, and where its metrics are. `name` is the Deployment's and its Prometheus job's.

    `queries` replaces the expressions of `QUERIES` by metric, NAME standing for the name: percent of each pod, requests
    a second and requests waiting as totals, the seconds' histogram with SERIES for its bucket, sum and count.
    """

    name: str
    namespace: str = "default"
    kind: str = "Deployment"
    prometheus: str = "http://prometheus-server.monitoring.svc:9090"
    queries: Mapping[MetricName, str] = field(default_factory=dict)


def compile_policy(policy: ScalingPolicy, line: Timeline, workload: Workload) -> dict[str, Any]:
    """The ScaledObject, as JSON values. The timeline's first 364 days are rendered.

    Raises: InvalidPolicy where the calendar is too irregular for cron triggers.
    """
    if line.end - line.start > HORIZON:
        line = Timeline(
            line.start, line.start + HORIZON, tuple(p for p in line.breakpoints if p.at < line.start + HORIZON)
        )
    marked = marks(line)
    if len(marked) > MOST_TRIGGERS:
        raise InvalidPolicy(
            f"These windows need {len(marked)} cron triggers and at most {MOST_TRIGGERS} are written: "
            "use fewer windows, fewer exceptions, or a cron that fires less often.",
            field="/windows",
        )
    usual = base(line)
    floors = [usual[0], *(mark.min for mark in marked)]
    caps = [usual[1], *(mark.max for mark in marked)]
    metrics = policy.metrics.chosen()
    if "queue_depth" not in dict(metrics):  # the only metric that exists where nothing runs: it wakes from zero
        metrics = [*metrics, ("queue_depth", Metric(target=1000.0))]
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {
            "name": f"darkroom-{workload.name}",
            "namespace": workload.namespace,
            "labels": {"app.kubernetes.io/managed-by": "darkroom"},
            "annotations": {"darkroom/render-again-before": f"{line.end:%Y-%m-%dT%H:%M:%SZ}"},
        },
        "spec": {
            "scaleTargetRef": {"kind": workload.kind, "name": workload.name},
            "pollingInterval": 15,
            "cooldownPeriod": int(policy.scale_to_zero_after.total_seconds()),
            "minReplicaCount": min(floors),
            "maxReplicaCount": max(*caps, 1),
            # Prometheus away: what runs goes on, and the largest floor is kept; never zero on missing data.
            "fallback": {
                "failureThreshold": 3,
                "replicas": max(*floors, 1),
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {
                "scalingModifiers": {
                    "formula": _formula(marked, usual, metrics),
                    "target": "1",
                    "activationTarget": "0",
                    "metricType": "AverageValue",
                },
                "horizontalPodAutoscalerConfig": {"behavior": _behavior(policy, max(*caps, 1))},
            },
            "triggers": [
                *(_cron(index, mark) for index, mark in enumerate(marked)),
                *(_prometheus(name, metric, workload) for name, metric in metrics),
            ],
        },
    }


def _formula(marked: list[Mark], usual: tuple[int, int], metrics: list[tuple[MetricName, Metric]]) -> str:
    """Replicas wanted: `min(max(demand, floor), cap)`, the floor and the cap being the first active mark's."""
    ratios = [f"{name} / {metric.target:.12g}" for name, metric in metrics]
    demand = f"max({', '.join(ratios)})" if len(ratios) > 1 else ratios[0]
    floor, cap = (_by_mark(marked, usual, which) for which in (0, 1))
    return f"min(max({demand}, {floor}), {cap})"


def _by_mark(marked: list[Mark], usual: tuple[int, int], which: int) -> str:
    """`mark_0 > 1 ? 3 : mark_1 > 1 ? 2 : 1`: an active mark reads 2, an idle one 0, or 1 in older KEDAs."""
    choices = "".join(f"mark_{index} > 1 ? {(mark.min, mark.max)[which]} : " for index, mark in enumerate(marked))
    return f"({choices}{usual[which]})" if choices else str(usual[which])


def _cron(index: int, mark: Mark) -> dict[str, Any]:
    metadata = {"timezone": mark.zone, "start": mark.start, "end": mark.end, "desiredReplicas": "2"}
    return {"type": "cron", "name": f"mark_{index}", "metadata": metadata}


def _prometheus(name: MetricName, metric: Metric, workload: Workload) -> dict[str, Any]:
    return {
        "type": "prometheus",
        "name": name,
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": workload.prometheus,
            "query": _query(name, metric, workload),
            "threshold": f"{metric.target:.12g}",
            "ignoreNullValues": "false",  # a metric that is gone is a failure, not a zero
        },
    }


def _query(name: MetricName, metric: Metric, workload: Workload) -> str:
    """The metric times the replicas it was read from, so that divided by its target it asks for replicas.

    Where no replica runs there is none to read: `absent(up)` then stands in with zero, while a running replica whose
    metric is missing gives nothing, which KEDA takes for the failure it is. The queue is the API's, and always there.
    """
    given = workload.queries.get(name, QUERIES[name]).replace("NAME", workload.name)
    running = f'count(up{{job="{workload.name}"}} == 1)'
    nothing_runs = f'absent(up{{job="{workload.name}"}} == 1) * 0'
    if name == "queue_depth":
        return given
    if name == "requests_per_second":
        return f"({given}) or on() ({nothing_runs})"
    if name == "latency":
        return f"({_latency(given, metric)} * on() {running}) or on() ({nothing_runs})"
    over = "max" if metric.statistic == "maximum" else "avg"
    return f"({over}({given}) * on() {running}) or on() ({nothing_runs})"


def _latency(histogram: str, metric: Metric) -> str:
    bucket, total, count = (f"rate({histogram.replace('SERIES', series)}[5m])" for series in ("bucket", "sum", "count"))
    quantile = {"p50": "0.5", "p90": "0.9", "p95": "0.95", "p99": "0.99", "maximum": "1"}.get(metric.statistic)
    query = f"histogram_quantile({quantile}, sum by (le) ({bucket}))" if quantile else f"sum({total}) / sum({count})"
    # Without requests that is 0/0; then it is zero, while a histogram that is gone stays missing.
    return f"({query} >= 0 or on() sum({count}) == 0)"


def _behavior(policy: ScalingPolicy, largest: int) -> dict[str, Any]:
    """More at once, so that windows open on time; fewer only when nothing within the longest cooldown asked for more.

    The autoscaler has no cooldown after an increase that would not also delay a window.
    """
    calm = max(int(metric.scale_in_cooldown.total_seconds()) for _, metric in policy.metrics.chosen())
    up = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": largest, "periodSeconds": 15}]}
    down = {"stabilizationWindowSeconds": calm, "policies": [{"type": "Pods", "value": largest, "periodSeconds": 15}]}
    if largest > 10:  # by default a step of a tenth is ignored: 10 -> 11 at a window's opening would be
        return {"scaleUp": {**up, "tolerance": "0"}, "scaleDown": {**down, "tolerance": "0"}}
    return {"scaleUp": up, "scaleDown": down}
