"""What clients of other services ask for, in /openapi.json."""

from __future__ import annotations

from typing import Any

from api.clients.openai_schemas import ImagesAnswer, ImagesRequest, OpenAIProblem
from api.openapi.vocabulary import Operations, content, returns

SCHEMAS = (ImagesRequest, ImagesAnswer, OpenAIProblem)


def _problems(**reasons: str) -> dict[str, Any]:
    return {status.removeprefix("_"): returns(reason, OpenAIProblem) for status, reason in reasons.items()}


OPERATIONS: Operations = {
    ("POST", "/v1/images/generations"): {
        "operationId": "createImage",
        "summary": "Images, as OpenAI's clients ask for them",
        "description": "The images themselves, once they are made; errors are in OpenAI's form.",
        "tags": ["images"],
        "requestBody": {"required": True, "content": content(ImagesRequest)},
        "responses": {
            "200": returns("the images", ImagesAnswer),
            **_problems(
                _400="a member is missing, unknown or out of range",
                _401="no valid API key",
                _404="no such model",
                _413="the body is too large",
                _415="not application/json",
                _429="more under way than is your share",
                _500="our fault",
                _503="overloaded, draining, or a store is down",
                _504="not made in time; the message names the job, which goes on",
            ),
        },
    },
}
