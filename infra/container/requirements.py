"""Prints the requirements of some of pyproject.toml's extras: an image installs them before, and without, the code."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[(?P<extras>[^]]*)\])?")
# Both bring the module `onnxruntime`; whichever is installed last would win.
_REPLACED_BY = {"onnxruntime": "onnxruntime-gpu"}


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The sorted requirements of `extras`, extras of the project itself followed, each line once.

    Raises: KeyError for an extra that pyproject.toml does not have.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    names: dict[str, str] = {}
    waiting = list(extras)
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            parts = _REQUIREMENT.match(line)
            if parts is None:
                raise ValueError(f"{pyproject}: {line!r} is no requirement")
            if parts["name"] == project["name"]:
                waiting += [extra.strip() for extra in parts["extras"].split(",")]
            else:
                names[line] = parts["name"]
    return sorted(line for line, name in names.items() if _REPLACED_BY.get(name) not in names.values())


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])))
