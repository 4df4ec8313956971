"""What a request's image is for, when the request does not say."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom.contracts import Control, GenerationRequest
from darkroom.errors import DarkroomError
from darkroom.image_use import image_use, steps_run
from darkroom.parsing import parse_request

URL = "https://example.com/a.png"


def asked(**said: Any) -> GenerationRequest:
    return parse_request({"prompt": "a cat", "image": URL, **said})


def test_an_image_alone_controls_where_there_is_one_controlnet() -> None:
    assert image_use(asked(), 25, ["canny"], enters=True) == {"control": [Control(type="canny")], "strength": None}


def test_an_image_alone_is_drawn_again_where_there_is_none() -> None:
    assert image_use(asked(), 25, [], enters=True) == {"control": None, "strength": 0.8}


def test_an_image_alone_means_nothing_where_there_are_several() -> None:
    with pytest.raises(DarkroomError, match=r"^Say what the image is for: control.type \(canny, depth\), or strength"):
        image_use(asked(), 25, ["canny", "depth"], enters=True)


def test_what_was_said_is_kept() -> None:
    said = asked(strength=0.3, control=[{"type": "depth", "scale": 0.5}, {"type": "canny"}])
    assert image_use(said, 25, ["canny", "depth"], enters=True) == {"control": said.control, "strength": 0.3}
    assert image_use(asked(mask=URL), 25, ["canny"], enters=True) == {"control": None, "strength": 1.0}
    assert image_use(asked(mask=URL, strength=0.5), 25, ["canny"], enters=True) == {"control": None, "strength": 0.5}
    assert image_use(GenerationRequest(prompt=""), 25, ["canny"], enters=False) == {"control": None, "strength": None}


def test_what_was_filled_in_stays() -> None:
    for types in (["canny"], []):
        filled = asked().model_copy(update=image_use(asked(), 25, types, enters=True))
        assert image_use(filled, 25, types, enters=True) == {"control": filled.control, "strength": filled.strength}


@pytest.mark.parametrize(
    ("said", "types", "code", "field"),
    [
        ({"control": {}}, [], "invalid_parameter", "/control"),
        ({"control": {"type": "pose"}}, ["canny"], "invalid_parameter", "/control/type"),
        ({"control": {}}, ["canny", "depth"], "invalid_parameter", "/control/type"),
        ({"strength": 0.03}, [], "out_of_range", "/strength"),
    ],
)
def test_what_the_model_has_not(said: dict[str, Any], types: list[str], code: str, field: str) -> None:
    with pytest.raises(DarkroomError) as refused:
        image_use(asked(**said), 25, types, enters=True)
    assert (refused.value.code, refused.value.field) == (code, field)


@pytest.mark.parametrize("said", [{"strength": 0.5}, {"mask": URL}, {}])
def test_a_bundle_without_entry_tables_says_so(said: dict[str, Any]) -> None:
    with pytest.raises(DarkroomError, match="built without image-to-image"):
        image_use(asked(**said), 25, [], enters=False)


@pytest.mark.parametrize(("steps", "strength", "run"), [(25, 0.8, 20), (25, 1.0, 25), (50, 0.75, 37), (4, 0.2, 0)])
def test_steps_are_rounded_as_diffusers_rounds(steps: int, strength: float, run: int) -> None:
    assert steps_run(steps, strength) == run
