"""The OpenAPI document says what the API does, no more and no less."""

import json
import re
from typing import Any

from api.app import ROUTES
from api.openapi.document import OPERATIONS, openapi
from api.openapi.page import page

UNDOCUMENTED = {"/openapi.json", "/docs"}  # they are the documentation


def document() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(openapi())
    return told


def test_every_route_is_documented_and_nothing_else() -> None:
    routes = {
        (method, path)
        for path, endpoint in ROUTES.items()
        for method in endpoint.methods
        if method != "HEAD" and path not in UNDOCUMENTED
    }
    assert routes == set(OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    schemas = document()["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', openapi()))
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


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    assert "<script" not in page()
    assert not re.search(r"<(?:link|img|iframe)[^>]+(?:src|href)=\"(?!data:)", page())
    assert not re.search(r"@import|[:\s]url\(", page())


def test_the_page_shows_every_operation_and_every_schema_that_is_linked_to() -> None:
    for method, path in OPERATIONS:
        assert f"<code>{method} {path}</code>" in page()
    links, places = re.findall(r'href="#([^"]+)"', page()), re.findall(r'<details id="([^"]+)"', page())
    assert links
    assert set(links) <= set(places)
    assert len(set(places)) == len(places)


def test_members_of_a_request_that_may_be_left_out_have_no_default() -> None:
    """A generated TypeScript client had to be given fourteen of them."""
    schemas = document()["components"]["schemas"]
    asked = schemas["GenerationRequest"]
    assert asked["required"] == ["prompt"]
    assert not [name for name, member in asked["properties"].items() if "default" in member]
    assert asked["properties"]["num_images"]["description"] == "default: 1"
    assert schemas["ScalingPolicy"]["properties"]["scale_to_zero_after"]["description"].endswith('default: "600s"')


def test_members_of_an_answer_that_are_always_there_are_required() -> None:
    schemas = document()["components"]["schemas"]
    assert {"id", "status", "model", "progress"} <= set(schemas["JobDocument"]["required"])
    assert "image" not in schemas["JobDocument"]["required"]
    assert {"hit", "steps_skipped"} <= set(schemas["CacheReport"]["required"])
