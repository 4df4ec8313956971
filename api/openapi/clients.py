"""What clients of other services ask for, in /openapi.json."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from api.clients.a1111_schemas import Drawn, ImageToImage, TextToImage, WebUiError
from api.clients.openai_schemas import EditsForm, ImagesAnswer, ImagesRequest, OpenAIProblem
from api.clients.web_ui_addresses import LISTS, PREFIX
from api.openapi.vocabulary import Operation, Operations, content, returns

SCHEMAS = (ImagesRequest, EditsForm, ImagesAnswer, OpenAIProblem, TextToImage, ImageToImage, Drawn, WebUiError)


def _problems(**reasons: str) -> dict[str, Any]:
    return {status.removeprefix("_"): returns(reason, OpenAIProblem) for status, reason in reasons.items()}


def _web_ui(method: str, name: str, summary: str, body: type[BaseModel] | None, answer: dict[str, Any]) -> Operation:
    return {
        "operationId": f"webUi{method.title()}{''.join(word.title() for word in name.split('-'))}",
        "summary": summary,
        "tags": ["web UI"],
        **({"requestBody": {"required": True, "content": content(body)}} if body else {}),
        "responses": {"200": answer, "default": returns("refused, as the web UI says it", WebUiError)},
    }


_ANY = {"description": "as the web UI has it", "content": {"application/json": {"schema": {}}}}
_OPTIONS = {"type": "object", "properties": {"sd_model_checkpoint": {"type": "string"}}, "additionalProperties": False}
_WEB_UI: Operations = {
    ("POST", f"{PREFIX}/txt2img"): _web_ui(
        "post", "txt2img", "Images from a prompt", TextToImage, returns("the images", Drawn)
    ),
    ("POST", f"{PREFIX}/img2img"): _web_ui(
        "post", "img2img", "An image drawn again", ImageToImage, returns("the images", Drawn)
    ),
    ("POST", f"{PREFIX}/interrupt"): _web_ui("post", "interrupt", "Cancel your jobs that are waited for", None, _ANY),
    ("POST", f"{PREFIX}/options"): {
        **_web_ui("post", "options", "Only what holds already can be set", None, _ANY),
        "requestBody": {"required": True, "content": {"application/json": {"schema": _OPTIONS}}},
    },
    **{("GET", f"{PREFIX}/{name}"): _web_ui("get", name, f"The {name}", None, _ANY) for name in LISTS},
}
_MADE = {
    "200": returns("the images", ImagesAnswer),
    **_problems(
        _400="a member is missing, unknown or out of range",
        _401="no valid API key",
        _404="no such model",
        _413="the body is too large",
        _415="the body is of another type",
        _429="more under way than is your share",
        _500="our fault",
        _503="overloaded, draining, or a store is down",
        _504="not made in time; the message names the job, which goes on",
    ),
}
OPERATIONS: Operations = {
    **_WEB_UI,
    ("POST", "/v1/images/generations"): {
        "operationId": "createImage",
        "summary": "Images, as OpenAI's clients ask for them",
        "description": "The images themselves, once they are made; errors are in OpenAI's form.",
        "tags": ["images"],
        "requestBody": {"required": True, "content": content(ImagesRequest)},
        "responses": _MADE,
    },
    ("POST", "/v1/images/edits"): {
        "operationId": "editImage",
        "summary": "An image drawn again, as OpenAI's clients ask for it",
        "description": "With a mask it is drawn again where that is transparent, else all of it, by `strength`.",
        "tags": ["images"],
        "requestBody": {"required": True, "content": content(EditsForm, "multipart/form-data")},
        "responses": _MADE,
    },
}
