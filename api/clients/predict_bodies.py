"""What other services' clients send to `:predict`, as requests of ours.

- KServe V1 and Vertex AI's Imagen: `{"instances": [...], "parameters": {...}}`, answered with `{"predictions": [...]}`
- Hugging Face's inference API: `{"inputs": ..., "parameters": {...}}`, answered with the image itself
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from darkroom.errors import InvalidParameter, InvalidType, OutOfRange, UnknownField

MAX_INSTANCES = 8
_RENAMED = {  # of Imagen, and of Hugging Face
    "negativePrompt": "negative_prompt",
    "sampleCount": "num_images",
    "num_images_per_prompt": "num_images",
    "scheduler": "sampler",
}


Form = Literal["ours", "instances", "inputs"]


@dataclass(frozen=True)
class Body:
    """The requests in it, as JSON of our own, and where a member of ours lies in what was sent."""

    form: Form
    requests: list[Any]

    def field_of(self, field: str | None, number: int) -> str | None:
        """The JSON pointer into the body of what is `field` in request `number`."""
        if self.form == "ours":
            return field
        return f"/instances/{number}{field or ''}" if self.form == "instances" else f"/parameters{field or ''}"


def understood(value: Any) -> Body:
    """Raises: InvalidParameter, InvalidType, OutOfRange, UnknownField."""
    if isinstance(value, dict) and "instances" in value:
        return Body("instances", _instances(value))
    if isinstance(value, dict) and "inputs" in value:
        return Body("inputs", [_inputs(value)])
    return Body("ours", [value])


def _instances(value: dict[str, Any]) -> list[Any]:
    _only(value, "instances", "parameters")
    instances, shared = value["instances"], _parameters(value)
    if not isinstance(instances, list):
        raise InvalidType("instances: a list is needed.", field="/instances")
    if not 1 <= len(instances) <= MAX_INSTANCES:
        raise OutOfRange(f"There may be 1 to {MAX_INSTANCES} instances.", field="/instances")
    return [shared | _renamed(one) if isinstance(one, dict) else one for one in instances]


def _inputs(value: dict[str, Any]) -> dict[str, Any]:
    """`inputs` is the prompt or, where the parameters hold one, an image in base64."""
    _only(value, "inputs", "parameters", "options")
    inputs, parameters = value["inputs"], _parameters(value)
    if not isinstance(inputs, str):
        raise InvalidType("inputs: a text is needed.", field="/inputs")
    size = parameters.pop("target_size", None)
    if size is not None:
        if not isinstance(size, dict):
            raise InvalidType("target_size: an object is needed.", field="/parameters/target_size")
        parameters |= size
    if "prompt" not in parameters:
        return {**parameters, "prompt": inputs}
    image = inputs if inputs.startswith("data:") else f"data:image/png;base64,{inputs}"  # its bytes tell what it is
    return {**parameters, "image": image}


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    parameters = value.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidType("parameters: an object is needed.", field="/parameters")
    return _renamed(parameters)


def _renamed(members: dict[str, Any]) -> dict[str, Any]:
    """In our words; what is null was not given."""
    ours = {_RENAMED.get(name, name): member for name, member in members.items() if member is not None}
    if len(ours) < sum(member is not None for member in members.values()):
        raise InvalidParameter("A parameter is given under two names.", field="/parameters")
    return ours


def _only(value: dict[str, Any], *names: str) -> None:
    for name in value:
        if name not in names:
            raise UnknownField("This member is not part of such a body; see /openapi.json.", field=f"/{name[:100]}")
