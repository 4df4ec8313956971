"""Passages of the README that benchmarks write."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pictures import readme

TEXT = "# A\n<!-- figures: made by a command -->\n<!-- /figures -->\nrest \\1\n"


def test_a_passage_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(TEXT)
    for passage in ("first\n", "a \\1 | b\n"):
        readme.write("figures", passage, path)
    assert path.read_text() == (
        "# A\n<!-- figures: made by a command -->\n\na \\1 | b\n\n<!-- /figures -->\nrest \\1\n"
    )
    with pytest.raises(ValueError, match="no passage other"):
        readme.write("other", "", path)


def test_the_readme_has_the_passage_that_the_quality_benchmark_writes(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(readme.README.read_text())
    readme.write("quality", "| table |", path)
    assert "| table |" in path.read_text()
