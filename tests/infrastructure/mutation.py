"""Templates with one thing left out, and which of the checks notices."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.infrastructure import rulebook
from tests.infrastructure.stack import CONFIGURATIONS

Path_ = tuple[str | int, ...]
# The parts of a template that CloudFormation acts upon.
PARTS = ("Parameters", "Mappings", "Rules", "Conditions", "Globals", "Resources", "Outputs", "Metadata")


def properties(template: Mapping[str, Any]) -> Iterator[Path_]:
    """The path of every key of every mapping, and of every member of every list, at any depth of the template's parts.

    Functions (`Ref`, `Fn::Sub`) and what is inside conditions are values, not properties: they are not taken apart.
    """
    for part in PARTS:
        for name, said in template.get(part, {}).items():
            yield (part, name)
            yield from _below((part, name), said)


def _below(path: Path_, said: Any) -> Iterator[Path_]:
    if isinstance(said, dict):
        if _is_function(said):
            if "Fn::If" in said:
                for branch in (1, 2):
                    yield from _below((*path, "Fn::If", branch), said["Fn::If"][branch])
            return
        for key, value in said.items():
            yield (*path, key)
            yield from _below((*path, key), value)
    elif isinstance(said, list):
        for index, value in enumerate(said):
            yield (*path, index)
            yield from _below((*path, index), value)


def _is_function(said: Mapping[str, Any]) -> bool:
    return len(said) == 1 and next(iter(said)).startswith(("Ref", "Fn::", "Condition"))


def without(template: Mapping[str, Any], path: Path_) -> dict[str, Any]:
    """A copy of the template in which `path` is left out."""
    mutant = copy.deepcopy(dict(template))
    place: Any = mutant
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return mutant


def noticed_by_rules(mutant: Mapping[str, Any]) -> str | None:
    """What the first rule says that notices; None where none does."""
    return next((said for name in CONFIGURATIONS for said in rulebook.violations(mutant, name)), None)


def noticed_by_cfn_lint(folder: Path) -> Callable[[Mapping[str, Any]], str | None]:
    """The same for cfn-lint, warnings included, for files in `folder`: seconds each, so for what no rule notices."""
    from cfnlint.api import lint_file
    from cfnlint.config import ManualArgs

    def noticed(mutant: Mapping[str, Any]) -> str | None:
        file = folder / "template.json"
        file.write_text(json.dumps(mutant))
        found = lint_file(file, ManualArgs(regions=["us-east-1"]))
        return f"{found[0].rule.id}: {found[0].message}" if found else None

    return noticed


def written(path: Path_) -> str:
    """`Resources.Api.Properties.Name`, as a person reads it."""
    return ".".join(str(step) for step in path)
