"""Parsed JSON -> a request, or the first thing that is wrong with it, in our words."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from darkroom import errors
from darkroom.contracts import MAX_PROMPT_CHARACTERS, Control, GenerationRequest
from darkroom.images.source import MAX_SOURCE_CHARACTERS
from darkroom.strict_json import pointer

_LONGEST_NAME = 40
_SAID_ELSEWHERE = {  # what other services call it
    "steps": "num_inference_steps",
    "num_steps": "num_inference_steps",
    "inference_steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "cfg": "guidance_scale",
    "guidance": "guidance_scale",
    "n": "num_images",
    "n_iter": "num_images",
    "batch_size": "num_images",
    "num_outputs": "num_images",
    "num_images_per_prompt": "num_images",
    "scheduler": "sampler",
    "sampler_name": "sampler",
    "negativeprompt": "negative_prompt",
    "format": "output_format",
    "response_format": "output_format",
    "size": "width",
    "init_image": "image",
    "init_images": "image",
    "image_url": "image",
    "mask_image": "mask",
    "denoising_strength": "strength",
    "prompt_strength": "strength",
    "controlnet": "control",
}
_WHOLE_SENTENCES = ("image_source_conflict", "out_of_range")  # our own rules about several members together
_CODE_OF: dict[str, type[errors.DarkroomError]] = {
    "extra_forbidden": errors.UnknownField,
    "finite_number": errors.NotFinite,
    "image_source_conflict": errors.ImageSourceConflict,
    "image_url_rejected": errors.ImageUrlRejected,
    "invalid_base64": errors.InvalidBase64,
    "out_of_range": errors.OutOfRange,
    "greater_than": errors.OutOfRange,
    "greater_than_equal": errors.OutOfRange,
    "less_than": errors.OutOfRange,
    "less_than_equal": errors.OutOfRange,
    "string_unicode": errors.InvalidUnicode,
}


def parse_request(value: Any) -> GenerationRequest:
    """A request from parsed JSON, or the first thing that is wrong with it.

    Raises: InvalidType, UnknownField, NotFinite, OutOfRange, PromptTooLong, InvalidDimensions, InvalidParameter,
    ImageSourceConflict, ImageUrlRejected, ImageTooLarge, InvalidBase64.
    """
    try:
        return GenerationRequest.model_validate(value)
    except ValidationError as refused:
        error = from_validation(refused, [*GenerationRequest.model_fields, *Control.model_fields])
        if error.field and error.field.startswith("/control/0") and isinstance(value["control"], dict):
            error.field = "/control" + error.field.removeprefix("/control/0")  # it was not given as a list
        raise error from None


def _meant(name: str, names: Collection[str]) -> str:
    near = _SAID_ELSEWHERE.get(name.lower().replace("-", "_"))
    if near is None or near not in names:
        near = next(iter(difflib.get_close_matches(name[:_LONGEST_NAME].lower(), names, n=1)), None)
    return f"did you mean {near}" if near else "see /openapi.json"


def from_validation(refused: ValidationError, names: Collection[str] = ()) -> errors.DarkroomError:
    """The first of pydantic's findings in our words: they name the field and the rule, never the input.

    `names` are the members that there are: of one that is not known, the like is named.
    """
    finding = refused.errors(include_url=False, include_input=False, include_context=True)[0]
    kind, place = finding["type"], [str(part) for part in finding["loc"]]
    field = pointer(place)
    name = place[-1] if place else "The body"
    rule = finding["msg"][0].lower() + finding["msg"][1:]
    if kind in _WHOLE_SENTENCES:
        field = finding.get("ctx", {}).get("field") or field
        return _CODE_OF[kind](finding["msg"][0].upper() + finding["msg"][1:].rstrip(".") + ".", field=field)
    if not place:
        return errors.InvalidParameter("The body must be a JSON object.")
    if kind == "missing":
        return errors.InvalidParameter(f"{name} is required.", field=field)
    if kind == "extra_forbidden":
        return errors.UnknownField(f"This member is not part of the request; {_meant(name, names)}.", field=field)
    if kind == "string_too_long" and name in ("image", "mask"):
        return errors.ImageTooLarge(f"{name} may have at most {MAX_SOURCE_CHARACTERS} characters.", field=field)
    if kind == "string_too_long":
        return errors.PromptTooLong(f"{name} may have at most {MAX_PROMPT_CHARACTERS} characters.", field=field)
    if kind.endswith("_type"):
        return errors.InvalidType(f"{name}: {rule}.", field=field)
    if name in ("width", "height") and kind in ("greater_than_equal", "less_than_equal"):
        return errors.InvalidDimensions(f"{name}: {rule}.", field=field)
    return _CODE_OF.get(kind, errors.InvalidParameter)(f"{name}: {rule}.", field=field)
