"""As much of IAM as our policies use: does one of these statements allow this call?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

Statement = Mapping[str, Any]


def listed(value: Any) -> list[Any]:
    """IAM takes one or a list everywhere."""
    return list(value) if isinstance(value, list) else [value]


def allows(statements: Iterable[Statement], action: str, arn: str, context: Mapping[str, str] | None = None) -> bool:
    """Some statement allows the action on the resource in this context, and none denies it."""
    found = [one["Effect"] for one in statements if _applies(one, action, arn, context or {})]
    return "Allow" in found and "Deny" not in found


def _applies(statement: Statement, action: str, arn: str, context: Mapping[str, str]) -> bool:
    return (
        any(fnmatchcase(action.lower(), one.lower()) for one in listed(statement["Action"]))
        and any(fnmatchcase(arn, one) for one in listed(statement["Resource"]))
        and all(_holds(*one, context) for one in statement.get("Condition", {}).items())
    )


def _holds(operator: str, wanted: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    if operator not in ("StringEquals", "ArnEquals", "Bool"):
        raise ValueError(f"no such operator here: {operator}")
    return all(context.get(key) in listed(values) for key, values in wanted.items())
