"""Which members of a document may be left out, said so that generators of clients read it as it is meant.

To them a member with a default is one that is always there, and one that is not required one that may be missing. In a
request the first is wrong, in an answer the second: what has a default is always in it.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

Schema = dict[str, Any]
_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)


def optional(schema: Schema) -> None:
    """Of what is sent: defaults become words."""
    for member in schema.get("properties", {}).values():
        default = member.pop("default", None)
        if default is None:
            continue
        if member.get("format") == "duration" and isinstance(default, str):
            default = f"{int(_DURATION.validate_python(default).total_seconds())}s"
        said = f"default: {json.dumps(default)}"
        member["description"] = f"{member['description']}; {said}" if "description" in member else said


def always_there(schema: Schema) -> None:
    """Of what is answered: a member that is never null is never left out."""
    there = [
        name for name, member in schema.get("properties", {}).items() if {"type": "null"} not in member.get("anyOf", ())
    ]
    for member in schema.get("properties", {}).values():
        member.pop("default", None)
    schema["required"] = sorted({*schema.get("required", ()), *there})
