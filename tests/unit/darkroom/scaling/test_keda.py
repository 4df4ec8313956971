"""The ScaledObject: its fields as KEDA's published schema has them, and what its formula would compute."""

import re
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest

from darkroom.errors import InvalidPolicy
from darkroom.scaling.document import parse_policy, read_policy_file
from darkroom.scaling.executors import EXECUTORS, render
from darkroom.scaling.keda import Workload, compile_policy
from darkroom.scaling.timeline import timeline

START = datetime(2026, 11, 16, tzinfo=UTC)


def shape(required=(), **properties):
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def whole(minimum):
    return {"type": "integer", "minimum": minimum, "maximum": 2**31 - 1}


TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
RULE = shape(
    required=["policies"],
    stabilizationWindowSeconds={**whole(0), "maximum": 3600},
    tolerance={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
    policies={
        "type": "array",
        "minItems": 1,
        "items": shape(
            required=["type", "value", "periodSeconds"],
            type={"enum": ["Pods", "Percent"]},
            value=whole(1),
            periodSeconds={**whole(1), "maximum": 1800},
        ),
    },
)
# The part of keda.sh/v1alpha1 that we write, with the limits KEDA and the autoscaler put on it.
SCALED_OBJECT = shape(
    required=["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "keda.sh/v1alpha1"},
    kind={"const": "ScaledObject"},
    metadata=shape(required=["name"], name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=shape(
        required=["scaleTargetRef", "triggers"],
        scaleTargetRef=shape(required=["name"], name=TEXT, kind=TEXT),
        pollingInterval=whole(1),
        cooldownPeriod=whole(0),
        minReplicaCount=whole(0),
        maxReplicaCount=whole(1),
        fallback=shape(
            required=["failureThreshold", "replicas"],
            failureThreshold=whole(0),
            replicas=whole(0),
            behavior={"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]},
        ),
        advanced=shape(
            scalingModifiers=shape(
                formula=TEXT,
                target={"type": "string", "pattern": r"^[1-9]\d*$"},  # a fallback needs a whole number here
                activationTarget=TEXT,
                metricType={"enum": ["AverageValue", "Value"]},
            ),
            horizontalPodAutoscalerConfig=shape(behavior=shape(scaleUp=RULE, scaleDown=RULE)),
        ),
        triggers={
            "type": "array",
            "minItems": 1,
            "items": shape(
                required=["type", "metadata", "name"],
                type={"enum": ["cron", "prometheus"]},
                name={"type": "string", "pattern": r"^[a-z_][a-z0-9_]*$"},  # it is a name in the formula
                metricType={"enum": ["AverageValue"]},
                metadata=TEXTS,
            ),
        },
    ),
)


def scaled(document, **workload):
    policy = document if not isinstance(document, dict) else parse_policy({"min": 0, "max": 4, **document})
    line = timeline(policy, START, START + timedelta(days=366))
    found = compile_policy(policy, line, Workload("crayon", **workload))
    jsonschema.validate(found, SCALED_OBJECT)
    names = {trigger["name"] for trigger in found["spec"]["triggers"]}
    formula = found["spec"]["advanced"]["scalingModifiers"]["formula"]
    assert len(names) == len(found["spec"]["triggers"])
    assert set(re.findall(r"[a-z_]+[a-z0-9_]*", formula)) - {"min", "max"} <= names
    for trigger in found["spec"]["triggers"]:
        if trigger["type"] == "cron":
            assert trigger["metadata"]["desiredReplicas"] != "0"
            assert trigger["metadata"]["start"] != trigger["metadata"]["end"]
    return found["spec"]


def formula(spec):
    return spec["advanced"]["scalingModifiers"]["formula"]


def triggers(spec, kind):
    return {trigger["name"]: trigger["metadata"] for trigger in spec["triggers"] if trigger["type"] == kind}


def test_the_smallest_policy_needs_no_marks():
    spec = scaled({"max": 2})
    assert formula(spec) == "min(max(queue_depth / 4, 0), 2)"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (0, 2, 600)


def test_the_seeds_example(request):
    spec = scaled(read_policy_file(request.config.rootpath / "examples" / "seeds.yaml"))
    (mark,) = triggers(spec, "cron").values()
    assert mark == {"timezone": "Asia/Shanghai", "start": "0 9 * * *", "end": "0 16 * * *", "desiredReplicas": "2"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 4)
    demand = "max(gpu / 50, cpu / 50, requests_per_second / 50, queue_depth / 1000)"
    assert formula(spec) == f"min(max({demand}, (mark_0 > 1 ? 2 : 1)), (mark_0 > 1 ? 4 : 4))"


def test_all_examples_are_valid(request):
    for path in sorted((request.config.rootpath / "examples").glob("*.[jy]*")):
        scaled(read_policy_file(path))


def test_a_window_caps_and_a_holiday_comes_before_it():
    window = {"name": "w", "days": "mon-fri", "hours": "09:00-17:00", "min": 2, "max": 2, "exceptions": ["2026-12-25"]}
    spec = scaled({"max": 6, "windows": [window]})
    marks = triggers(spec, "cron")
    assert marks["mark_0"]["start"] == "0 9 25 12 *"
    assert marks["mark_1"]["start"] == "0 9 * * MON,TUE,WED,THU,FRI"
    assert formula(spec).endswith("(mark_0 > 1 ? 0 : mark_1 > 1 ? 2 : 0)), (mark_0 > 1 ? 6 : mark_1 > 1 ? 2 : 6))")
    assert spec["maxReplicaCount"] == 6


def test_the_queue_can_wake_from_zero_whatever_is_followed():
    spec = scaled({"metrics": {"gpu": 50}})
    assert formula(spec).startswith("min(max(max(gpu / 50, queue_depth / 1000)")
    assert spec["advanced"]["scalingModifiers"]["activationTarget"] == "0"


def test_missing_metrics_hold_what_runs_and_the_largest_floor():
    spec = scaled({"windows": [{"name": "w", "hours": "09:00-17:00", "min": 3}]})
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 3, "behavior": "currentReplicasIfHigher"}
    assert all(said["ignoreNullValues"] == "false" for said in triggers(spec, "prometheus").values())


def test_queries_ask_for_replicas_and_can_be_replaced():
    spec = scaled(
        {"metrics": {"gpu": {"target": 50, "statistic": "maximum"}, "latency": {"target": 9, "statistic": "p95"}}}
    )
    said = triggers(spec, "prometheus")
    assert said["gpu"]["query"].startswith(
        '(max(DCGM_FI_DEV_GPU_UTIL{pod=~"crayon-.*"}) * on() count(up{job="crayon"} == 1))'
    )
    assert (
        "histogram_quantile(0.95, sum by (le) (rate(darkroom_runtime_request_seconds_bucket{"
        in said["latency"]["query"]
    )
    assert "absent(up" in said["gpu"]["query"]
    own = scaled({"metrics": {"queue_depth": 4}}, queries={"queue_depth": 'sum(waiting{job="NAME"})'})
    assert triggers(own, "prometheus")["queue_depth"]["query"] == 'sum(waiting{job="crayon"})'


def test_cooldowns_become_the_autoscalers_behaviour():
    metrics = {"queue_depth": {"target": 4, "scale_in_cooldown": "12m"}}
    behavior = scaled({"metrics": metrics})["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 720
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert "tolerance" not in behavior["scaleUp"]
    many = scaled({"max": 20})["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert many["scaleUp"]["tolerance"] == "0"


def test_an_irregular_calendar_is_a_clear_error():
    with pytest.raises(InvalidPolicy, match="cron triggers"):
        scaled({"windows": [{"name": "w", "cron": "0 */7 1-28/3 * *", "duration": "1h", "min": 1}]})


def test_every_executor_renders_by_name(request):
    policy = read_policy_file(request.config.rootpath / "examples" / "seeds-asynchronous.yaml")
    line = timeline(policy, START, START + timedelta(days=30))
    assert set(EXECUTORS) == {"application-autoscaling", "application-autoscaling-real-time", "keda", "pool"}
    for name in EXECUTORS:
        assert render(name, policy, line, "crayon")
    with pytest.raises(ValueError, match="no executor"):
        render("crystal-ball", policy, line, "crayon")
