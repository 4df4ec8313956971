"""Bytes -> ScalingPolicy: YAML or JSON, refused with the field's JSON pointer where it cannot be followed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from darkroom import strict_json
from darkroom.errors import DuplicateKey, InvalidPolicy
from darkroom.scaling.policy import Pin, ScalingPolicy, Window
from darkroom.scaling.timeline import refuse_impossible

MAX_BYTES = 256 * 1024


class _PolicyLoader(yaml.CSafeLoader):
    """YAML with JSON's scalars: 16:00 stays text (YAML 1.1 reads 960), and so do dates, `on` and `no`."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own attribute)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if not all(isinstance(key, str) for key in keys):
            raise yaml.YAMLError("keys are text")
        if len(set(keys)) != len(keys):
            raise DuplicateKey("A member of the policy occurs more than once.")
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:int", r"-?(0|[1-9][0-9]*)", "-0123456789"),
    ("tag:yaml.org,2002:float", r"-?(0|[1-9][0-9]*)\.[0-9]+", "-0123456789"),
    ("tag:yaml.org,2002:null", r"null|~|", ["n", "~", ""]),
):
    _PolicyLoader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))


def read_policy(body: bytes, form: Literal["json", "yaml"] = "json") -> ScalingPolicy:
    """A policy from a document.

    Raises: InvalidPolicy with the field's JSON pointer; for JSON also what `strict_json.parse` raises.
    """
    if len(body) > MAX_BYTES:
        raise InvalidPolicy(f"A policy has at most {MAX_BYTES // 1024} KiB.")
    return parse_policy(strict_json.parse(body) if form == "json" else _yaml(body))


def read_policy_file(path: Path) -> ScalingPolicy:
    """A policy from a file; JSON where the name ends in `.json`, else YAML. Raises as `read_policy`, and OSError."""
    return read_policy(path.read_bytes(), "json" if path.suffix == ".json" else "yaml")


def parse_policy(value: Any) -> ScalingPolicy:
    """A policy from JSON values. Raises InvalidPolicy with the field's JSON pointer."""
    try:
        policy = ScalingPolicy.model_validate_json(json.dumps(value))
    except ValidationError as refused:
        raise _invalid(refused) from None
    except (TypeError, ValueError):
        raise InvalidPolicy("A policy is an object of texts, numbers and lists.") from None
    refuse_impossible(policy)
    return policy


def refuse_more_than(policy: ScalingPolicy, most: int) -> None:
    """Raises: InvalidPolicy, naming the first member that asks for more replicas than there is room for."""
    parts: dict[str, ScalingPolicy | Window | Pin] = {"": policy}
    parts |= {f"/windows/{index}": window for index, window in enumerate(policy.windows)}
    parts |= {f"/schedule/{index}": pin for index, pin in enumerate(policy.schedule)}
    for place, part in parts.items():
        for name in ("max", "min", "replicas"):
            if (getattr(part, name, None) or 0) > most:
                raise InvalidPolicy(f"This machine has room for at most {most} replicas.", field=f"{place}/{name}")


def written(policy: ScalingPolicy) -> dict[str, Any]:
    """The policy as JSON values that `parse_policy` reads back; what was left out stays out."""
    values: dict[str, Any] = policy.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return values


def _yaml(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
        _refuse_wild_yaml(text)
        return yaml.load(text, _PolicyLoader)  # noqa: S506 (a subclass of SafeLoader)
    except UnicodeDecodeError:
        raise InvalidPolicy("The policy is not UTF-8.") from None
    except yaml.MarkedYAMLError as refused:
        place = f" near line {refused.problem_mark.line + 1}" if refused.problem_mark else ""
        raise InvalidPolicy(f"The policy is not readable YAML{place}.") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise InvalidPolicy(
            "The policy is not readable YAML: plain text keys, no aliases, modest nesting and length."
        ) from None


def _refuse_wild_yaml(text: str) -> None:
    """Refuse what would cost more than its size says, before anything is built of it."""
    values = depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):  # a few lines of aliases can unfold to gigabytes
            raise yaml.YAMLError("aliases are not read")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.NodeEvent)
        if depth > strict_json.MAX_DEPTH or values > strict_json.MAX_VALUES:
            raise yaml.YAMLError("too deep, or too much")


def _invalid(refused: ValidationError) -> InvalidPolicy:
    """The first finding, in words that name the field and the rule but never the input."""
    finding = refused.errors(include_url=False, include_input=False)[0]
    context = finding.get("ctx", {})
    place = [str(part) for part in finding["loc"]] + [part for part in context.get("field", "").split("/") if part]
    reason = {"extra_forbidden": "a policy has no such field", "missing": "this field is required"}.get(
        finding["type"], finding["msg"][0].lower() + finding["msg"][1:]
    )
    name = place[-1] if place else "the policy"
    return InvalidPolicy(f"{name}: {reason}.", field=strict_json.pointer(place))
