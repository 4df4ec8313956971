"""The routes of scaling policies in /openapi.json."""

from __future__ import annotations

from api.openapi.vocabulary import ANY_BODY, IF_MATCH, MODEL, Operations, content, operation, returns
from api.schemas.scaling import ScalingChanges, ScalingPlan
from darkroom.scaling.policy import ScalingPolicy

_ETAG = {"ETag": {"description": "the policy's version, in quotes", "schema": {"type": "string"}}}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "`*`: only where there is no policy yet.",
    "schema": {"type": "string", "pattern": "^\\*$"},
}
_ABOUT_PLAN = (
    "What will hold when and why, with what the limits alone would cost. Times without an offset are in the policy's "
    "time zone; at most 92 days."
)

_NO_POLICY = "no such model, or it has no policy"

OPERATIONS: Operations = {
    ("GET", "/v1/models/{model}/scaling-policy"): operation(
        "getScalingPolicy",
        "The scaling policy, as it was written",
        "scaling",
        MODEL,
        answers={"200": returns("the policy", ScalingPolicy, **_ETAG)},
        _404=_NO_POLICY,
    ),
    ("PUT", "/v1/models/{model}/scaling-policy"): operation(
        "putScalingPolicy",
        "Store a scaling policy; the replicas follow it",
        "scaling",
        MODEL,
        IF_MATCH,
        _IF_NONE_MATCH,
        body={**content(ScalingPolicy), **content(ScalingPolicy, "application/yaml")},
        answers={
            "200": returns("replaced", ScalingPolicy, **_ETAG),
            "201": returns("the model's first policy", ScalingPolicy, **_ETAG),
        },
        _404="no such model",
        _412="the policy is not the one that If-Match or If-None-Match names; nothing has changed",
        _415="neither application/json nor application/yaml",
        _422="the policy cannot be followed (`field` points at the reason); the old one stays",
        **ANY_BODY,
    ),
    ("DELETE", "/v1/models/{model}/scaling-policy"): operation(
        "deleteScalingPolicy",
        "Go back to a fixed number of replicas",
        "scaling",
        MODEL,
        IF_MATCH,
        answers={"204": {"description": "deleted"}},
        _404=_NO_POLICY,
        _412="the policy is not the one that If-Match names; nothing has changed",
        _422="If-Match is not an ETag",
    ),
    ("GET", "/v1/models/{model}/scaling-policy/changes"): operation(
        "getScalingPolicyChanges",
        "Who changed the policy when",
        "scaling",
        MODEL,
        answers={"200": returns("the changes", ScalingChanges)},
        _404="no such model",
    ),
    ("GET", "/v1/models/{model}/scaling-plan"): operation(
        "getScalingPlan",
        "What the policy will do",
        "scaling",
        MODEL,
        *(
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in (
                ("from", "default: now"),
                ("to", "default: a week later"),
                ("instance", "whose price to take; default: the table's first"),
            )
        ),
        description=_ABOUT_PLAN,
        answers={"200": returns("the plan", ScalingPlan)},
        _404=_NO_POLICY,
        _422="an interval or instance that is none",
    ),
}
