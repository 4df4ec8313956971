"""Passages of docs/figures.md that benchmarks write."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pictures import page

TEXT = "# A\n<!-- figures: made by a command -->\n<!-- /figures -->\nrest \\1\n"


def test_a_passage_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "figures.md"
    path.write_text(TEXT)
    for passage in ("first\n", "a \\1 | b\n"):
        page.write("figures", passage, path)
    assert path.read_text() == (
        "# A\n<!-- figures: made by a command -->\n\na \\1 | b\n\n<!-- /figures -->\nrest \\1\n"
    )
    with pytest.raises(ValueError, match="no passage other"):
        page.write("other", "", path)


def test_the_page_has_the_passage_that_the_quality_benchmark_writes(tmp_path: Path) -> None:
    path = tmp_path / "figures.md"
    path.write_text(page.FIGURES.read_text())
    page.write("quality", "| table |", path)
    assert "| table |" in path.read_text()
