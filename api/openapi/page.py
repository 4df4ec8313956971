"""/docs: /openapi.json as one page that runs no script and loads nothing."""

from __future__ import annotations

import functools
import json
from html import escape
from typing import Any

from api.openapi.document import openapi

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Darkroom API</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
details { border: 1px solid #8886; border-radius: 6px; margin: 0.5rem 0; padding: 0.5rem 1rem }
td { padding: 0.25rem 1rem 0.25rem 0; vertical-align: top }
</style>
</head>
"""


@functools.cache
def page() -> str:
    """The document in HTML: every operation, then the schemas that they name."""
    document = json.loads(openapi())
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [
        f'<details id="{name}"><summary>{name}</summary><pre>{escape(json.dumps(schema, indent=2))}</pre></details>'
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    about = f'{_text(document["info"]["description"])} For programs: <a href="openapi.json">openapi.json</a>.'
    body = f"<h1>Darkroom API</h1><p>{about}</p>{''.join(operations)}<h2>Schemas</h2>{''.join(schemas)}"
    return f"{_HEAD}<body>\n{body}\n</body>\n</html>\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    title = f"<code>{method.upper()} {escape(path)}</code> {_text(operation['summary'])}"
    rows = [(one["name"], _text(one.get("description", one["in"]))) for one in operation.get("parameters", [])]
    rows += [("body", _documents(operation["requestBody"]))] if "requestBody" in operation else []
    for status, answer in operation["responses"].items():
        rows.append((status, f"{_text(answer['description'])} {_documents(answer)}"))
    lines = "".join(f"<tr><td><code>{name}</code></td><td>{text}</td></tr>" for name, text in rows)
    return f"<details><summary>{title}</summary><table>{lines}</table></details>"


def _documents(body: dict[str, Any]) -> str:
    """Links to the schemas that it may be of."""
    references = (content["schema"].get("$ref", "") for content in body.get("content", {}).values())
    names = dict.fromkeys(reference.rpartition("/")[2] for reference in references if reference)
    return " ".join(f'<a href="#{name}">{name}</a>' for name in names)


def _text(text: str) -> str:
    """Plain text, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
