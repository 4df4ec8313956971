"""Reports: JSON as it is kept in the repository."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` sorted and indented, with a final newline."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def versions(*libraries: str) -> dict[str, str]:
    """Which version of each is installed."""
    return {library: importlib.metadata.version(library) for library in libraries}
