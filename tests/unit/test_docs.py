"""Pages that are made from the code are as the code is."""

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_of_settings_is_theirs() -> None:
    """`python docs/settings.py` writes it."""
    made = runpy.run_path(str(DOCS / "settings.py"))
    assert (DOCS / "settings.md").read_text() == made["page"]()
