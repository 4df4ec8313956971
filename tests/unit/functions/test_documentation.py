"""The OpenAPI document says what the API does, no more and no less."""

import json
import re
from typing import Any

from functions import docs_page, documentation
from functions.api import ROUTES

UNDOCUMENTED = {"/openapi.json", "/docs"}  # they are the documentation


def document() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(documentation.openapi())
    return told


def test_every_route_is_documented_and_nothing_else() -> None:
    def path(rule: str) -> str:
        return rule.replace("\\", "").replace("<name>", "{model}").replace("<job_id>", "{id}")

    routes = {
        (method, path(rule))
        for rule, handlers in ROUTES
        for methods in handlers
        for method in methods
        if method != "HEAD" and path(rule) not in UNDOCUMENTED
    }
    assert routes == set(documentation.OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    schemas = document()["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', documentation.openapi()))
    assert referred <= set(schemas)
    assert {"GenerationRequest", "ImageAnswer", "JobDocument", "Problem"} <= referred


def test_path_parameters_are_declared() -> None:
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            declared = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))


def test_operations_have_names_of_their_own() -> None:
    names = [
        operation["operationId"] for operations in document()["paths"].values() for operation in operations.values()
    ]
    assert len(set(names)) == len(names)


def test_the_page_loads_nothing_from_afar() -> None:
    page = docs_page.page()
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//", page)
    assert "SwaggerUIBundle" in page
