"""A passage of docs/figures.md that a benchmark writes, between `<!-- NAME ... -->` and `<!-- /NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path

FIGURES = Path(__file__).parents[2] / "docs" / "figures.md"


def write(name: str, passage: str, path: Path = FIGURES) -> None:
    """Replace what is between the marks of `name`. Raises: ValueError, where `path` has no such marks."""
    between = re.compile(rf"(<!-- {name}\b[^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    text, replaced = between.subn(lambda marks: f"{marks[1]}\n{passage.strip()}\n\n{marks[2]}", path.read_text())
    if replaced != 1:
        raise ValueError(f"{path} has no passage {name}.")
    path.write_text(text)
