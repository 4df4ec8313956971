"""Writes docs/settings.md from the settings themselves: `python docs/settings.py`; a test holds the page to them."""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from darkroom.settings import Configured, Settings
from runtime.config import RuntimeConfig

PAGE = Path(__file__).with_suffix(".md")
_HEAD = """# Settings

Made from the settings themselves by `python docs/settings.py`. Each is an environment variable; an empty value counts
as not set, and a name that there is not is refused at start.

{parts}"""
_PARTS: tuple[tuple[type[Configured], str, str], ...] = (
    (
        Settings,
        "The service",
        "Read by `make run` and, on AWS, by the functions, which the template tells what they need.",
    ),
    (RuntimeConfig, "The runtime", "Read by each runtime; `make run` hands them on."),
)


def _default(field: FieldInfo) -> str:
    if field.default is None or field.default == "":
        return ""
    return f"`{field.default}`"


def page() -> str:
    """The whole page as Markdown."""
    parts = []
    for kind, title, about in _PARTS:
        rows = ["| variable | meaning | default |", "|---|---|---|"]
        for name, field in kind.model_fields.items():
            meaning = (field.description or "").replace("|", "\\|")
            rows.append(f"| `{kind.prefix}{name.upper()}` | {meaning} | {_default(field)} |")
        parts.append("\n".join([f"## {title}", "", about, "", *rows, ""]))
    return _HEAD.format(parts="\n".join(parts))


if __name__ == "__main__":
    PAGE.write_text(page())
