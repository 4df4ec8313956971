"""The routes of scaling policies in /openapi.json."""

from __future__ import annotations

from api.openapi.vocabulary import IF_MATCH, MODEL, Operations, content, problems, returns
from api.schemas.scaling import ScalingChanges, ScalingPlan
from darkroom.scaling.policy import ScalingPolicy

_ETAG = {"ETag": {"description": "the policy's version, in quotes", "schema": {"type": "string"}}}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "`*`: only where there is no policy yet.",
    "schema": {"type": "string", "const": "*"},
}
_ABOUT_PLAN = (
    "What will hold when and why, with what the limits alone would cost. Times without an offset are in the policy's "
    "time zone; at most 92 days."
)

OPERATIONS: Operations = {
    ("GET", "/v1/models/{model}/scaling-policy"): {
        "operationId": "getScalingPolicy",
        "summary": "The scaling policy, as it was written",
        "tags": ["scaling"],
        "parameters": [MODEL],
        "responses": {
            "200": returns("the policy", ScalingPolicy, **_ETAG),
            **problems(_404="no such model, or it has no policy"),
        },
    },
    ("PUT", "/v1/models/{model}/scaling-policy"): {
        "operationId": "putScalingPolicy",
        "summary": "Store a scaling policy; the replicas follow it",
        "tags": ["scaling"],
        "parameters": [MODEL, IF_MATCH, _IF_NONE_MATCH],
        "requestBody": {
            "required": True,
            "content": {**content(ScalingPolicy), **content(ScalingPolicy, "application/yaml")},
        },
        "responses": {
            "200": returns("replaced", ScalingPolicy, **_ETAG),
            "201": returns("the model's first policy", ScalingPolicy, **_ETAG),
            **problems(
                _400="not JSON, nested too deeply, or a member twice",
                _404="no such model",
                _412="the policy is not the one that If-Match or If-None-Match names; nothing has changed",
                _413="the body is too large",
                _415="neither application/json nor application/yaml",
                _422="the policy cannot be followed (`field` points at the reason); the old one stays",
            ),
        },
    },
    ("DELETE", "/v1/models/{model}/scaling-policy"): {
        "operationId": "deleteScalingPolicy",
        "summary": "Go back to a fixed number of replicas",
        "tags": ["scaling"],
        "parameters": [MODEL, IF_MATCH],
        "responses": {
            "204": {"description": "deleted"},
            **problems(
                _404="no such model, or it has no policy",
                _412="the policy is not the one that If-Match names; nothing has changed",
                _422="If-Match is not an ETag",
            ),
        },
    },
    ("GET", "/v1/models/{model}/scaling-policy/changes"): {
        "operationId": "getScalingPolicyChanges",
        "summary": "Who changed the policy when",
        "tags": ["scaling"],
        "parameters": [MODEL],
        "responses": {"200": returns("the changes", ScalingChanges), **problems(_404="no such model")},
    },
    ("GET", "/v1/models/{model}/scaling-plan"): {
        "operationId": "getScalingPlan",
        "summary": "What the policy will do",
        "tags": ["scaling"],
        "description": _ABOUT_PLAN,
        "parameters": [
            MODEL,
            *(
                {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
                for name, text in (
                    ("from", "default: now"),
                    ("to", "default: a week later"),
                    ("instance", "whose price to take; default: the table's first"),
                )
            ),
        ],
        "responses": {
            "200": returns("the plan", ScalingPlan),
            **problems(_404="no such model, or it has no policy", _422="an interval or instance that is none"),
        },
    },
}
