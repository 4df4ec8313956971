"""Parsed JSON -> a request, or the first thing that is wrong with it, in our words."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from darkroom import errors
from darkroom.contracts import MAX_PROMPT_CHARACTERS, GenerationRequest
from darkroom.images.source import MAX_SOURCE_CHARACTERS
from darkroom.strict_json import pointer

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
        error = from_validation(refused)
        if error.field and error.field.startswith("/control/0") and isinstance(value["control"], dict):
            error.field = "/control" + error.field.removeprefix("/control/0")  # it was not given as a list
        raise error from None


def from_validation(refused: ValidationError) -> errors.DarkroomError:
    """The first of pydantic's findings in our words: they name the field and the rule, never the input."""
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
        return errors.UnknownField("This member is not part of the request; see /openapi.json.", field=field)
    if kind == "string_too_long" and name in ("image", "mask"):
        return errors.ImageTooLarge(f"{name} may have at most {MAX_SOURCE_CHARACTERS} characters.", field=field)
    if kind == "string_too_long":
        return errors.PromptTooLong(f"{name} may have at most {MAX_PROMPT_CHARACTERS} characters.", field=field)
    if kind.endswith("_type"):
        return errors.InvalidType(f"{name}: {rule}.", field=field)
    if name in ("width", "height") and kind in ("greater_than_equal", "less_than_equal"):
        return errors.InvalidDimensions(f"{name}: {rule}.", field=field)
    return _CODE_OF.get(kind, errors.InvalidParameter)(f"{name}: {rule}.", field=field)
