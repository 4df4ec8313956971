"""/docs: /openapi.json as one page that runs no script and loads nothing."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from html import escape
from typing import Any

from api.openapi.document import openapi

Schema = dict[str, Any]
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code { font: 0.9em ui-monospace, monospace }
details { border: 1px solid #8886; border-radius: 6px; margin: 0.5rem 0; padding: 0.5rem 1rem }
summary { cursor: pointer }
table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid #8884; padding: 0.25rem 1rem 0.25rem 0; vertical-align: top }
"""


@functools.cache
def page() -> str:
    """The document in HTML: operations by tag, then the schemas that they name."""
    document = json.loads(openapi())
    info = document["info"]
    body = [f"<h1>{escape(info['title'])}</h1><p>{escape(info['summary'])} {_text(info['description'])}</p>"]
    body.append('<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>')
    tag = ""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                body.append(f"<h2>{escape(tag)}</h2>")
            body.append(_operation(method, path, operation))
    body.append("<h2>schemas</h2>")
    body += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Darkroom API</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n'
    )
    return f"{head}<body>\n{''.join(body)}\n</body>\n</html>\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [(f"{one['name']} ({one['in']})", _text(one.get("description", ""))) for one in _parameters(operation)]
    if "requestBody" in operation:
        rows.append(("body", _contents(operation["requestBody"])))
    for status, answer in operation["responses"].items():
        rows.append((status, f"{_text(answer['description'])} {_contents(answer)}"))
    title = f"<code>{method.upper()} {escape(path)}</code> {_text(operation['summary'])}"
    about = f"<p>{_text(operation['description'])}</p>" if "description" in operation else ""
    return f'<details id="{operation["operationId"]}"><summary>{title}</summary>{about}{_table(rows)}</details>'


def _parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = operation.get("parameters", [])
    return parameters


def _contents(body: dict[str, Any]) -> str:
    contents = body.get("content", {}).items()
    return ", ".join(f"{_type(content['schema'])} as <code>{escape(kind)}</code>" for kind, content in contents)


def _schema(name: str, schema: Schema) -> str:
    required = schema.get("required", [])
    rows = []
    for member, its in schema.get("properties", {}).items():
        needed = "required " if member in required else ""
        default = f" = <code>{escape(json.dumps(its['default']))}</code>" if its.get("default") is not None else ""
        rows.append((member, f"{needed}{_type(its)}{default} {_text(its.get('description', ''))}"))
    about = f"<p>{_text(schema.get('description', ''))}</p>"
    if "enum" in schema:
        about += f"<p>{_type(schema)}</p>"
    return f'<details id="schema-{name}"><summary><code>{name}</code></summary>{about}{_table(rows)}</details>'


def _type(schema: Schema) -> str:
    """What a value may be, with a link where it is a schema of its own."""
    return " or ".join(dict.fromkeys(_kinds(schema)))


def _kinds(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield f'<a href="#schema-{name}">{name}</a>'
    elif "enum" in schema or "const" in schema:
        yield from (f"<code>{escape(json.dumps(one))}</code>" for one in schema.get("enum", [schema.get("const")]))
    elif "anyOf" in schema or "oneOf" in schema:
        for one in schema.get("anyOf") or schema["oneOf"]:
            yield from _kinds(one)
    elif schema.get("type") == "array":
        yield f"list of {_type(schema.get('items', {}))}"
    else:
        yield escape(str(schema.get("format", schema.get("type", "any"))))


def _table(rows: list[tuple[str, str]]) -> str:
    lines = (f"<tr><td><code>{escape(name)}</code></td><td>{text}</td></tr>" for name, text in rows)
    return f"<table>{''.join(lines)}</table>"


def _text(text: str) -> str:
    """Plain text, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
