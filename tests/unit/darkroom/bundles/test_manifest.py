"""The manifest's own consistency, and a request filled in by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import GenerationRequest
from darkroom.errors import DarkroomError, InvalidDimensions
from darkroom.resolving import resolve
from tests.fakes import bundle

MANIFEST = bundle.manifest()
CONTROL = {
    "nets": [{"type": "canny", "component": "controlnet_canny"}],
    "residuals": [{"name": "mid_residual", "channels": 8, "shrink": 2}],
}


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = MANIFEST.model_dump(mode="json")
    change(content)
    return content


# ---- consistency --------------------------------------------------------------------------------------------------


def test_a_manifest_survives_the_wire_with_its_version() -> None:
    again = EngineManifest.model_validate_json(MANIFEST.model_dump_json(indent=1))
    assert again == MANIFEST
    assert again.content_version() == MANIFEST.version


def test_the_version_is_the_hash_of_all_but_itself() -> None:
    assert MANIFEST.model_copy(update={"version": "f" * 16}).content_version() == MANIFEST.version
    assert bundle.manifest(checkpoint="1" * 64).content_version() != MANIFEST.version
    assert bundle.manifest("other").content_version() != MANIFEST.version


@pytest.mark.parametrize(
    "path", ["../unet.xml", "/unet.xml", "a/../b", "./a", "a//b", "a/", "", "a\\b", "a\0", ".hidden", "manifest.json"]
)
def test_a_path_may_not_leave_the_bundle(path: str) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["files"].append({"path": path, "size": 1, "sha256": "0" * 64})

    with pytest.raises(ValidationError, match="inside the bundle"):
        EngineManifest.model_validate(changed(rename))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content["files"].pop(0), "not listed in files"),
        (lambda content: content["files"].append(content["files"][0]), "listed twice"),
        (lambda content: content["targets"][0]["files"].clear(), "not one of its files"),
        (lambda content: content["targets"].clear(), "at least 1 item"),
        (lambda content: content.update(schema_version=2), "should be 1"),
        (lambda content: content.update(model="../crayon"), "match pattern"),
        (lambda content: content.update(of_a_later_version=1), "not permitted"),
        (lambda content: content["text"].update(tokenizer="other.json"), "not listed in files"),
        (lambda content: content.update(control=CONTROL), "lacks a ControlNet"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: Callable[[dict[str, Any]], object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EngineManifest.model_validate(changed(change))


def with_control(content: dict[str, Any]) -> None:
    content["control"] = CONTROL
    for target in content["targets"]:
        target["components"]["controlnet_canny"] = target["components"]["unet"]


def test_parts_that_a_bundle_lacks_are_not_in_it() -> None:
    assert "control" not in MANIFEST.model_dump()
    assert "entries" not in MANIFEST.samplers.model_copy(update={"entries": False}).model_dump()
    having = EngineManifest.model_validate(changed(with_control))
    assert (having.control_types, MANIFEST.control_types) == (["canny"], [])
    assert EngineManifest.model_validate_json(having.model_dump_json()) == having
    assert having.content_version() != MANIFEST.content_version()


def test_an_image_brings_its_own_size() -> None:
    image = GenerationRequest(prompt="a cat", image="https://example.com/a.png", strength=0.5)
    for asked, resolved in (({}, (None, None)), ({"width": 96}, (96, 64)), ({"height": 96, "width": 32}, (32, 96))):
        made = resolve(image.model_copy(update=asked), MANIFEST)
        assert (made.width, made.height) == resolved
    assert resolve(GenerationRequest(prompt="a cat"), MANIFEST).width == 64


def test_an_image_finds_its_use() -> None:
    image = GenerationRequest(prompt="a cat", image="https://example.com/a.png")
    (control,) = resolve(image, EngineManifest.model_validate(changed(with_control))).control or []
    assert control.type == "canny"
    entering = changed(lambda content: content["samplers"].update(entries=True))
    assert resolve(image, EngineManifest.model_validate(entering)).strength == 0.8


def test_a_file_by_its_path() -> None:
    assert MANIFEST.file("unet.xml").size == len(bundle.FILES["unet.xml"])


# ---- requests -----------------------------------------------------------------------------------------------------


def test_defaults_are_filled_in_and_a_seed_drawn() -> None:
    filled = resolve(GenerationRequest(prompt="a cat"), MANIFEST)
    assert (filled.width, filled.height, filled.num_inference_steps) == (64, 64, 4)
    assert (filled.guidance_scale, filled.sampler) == (2.0, "ddim")
    assert filled.seed is not None
    assert resolve(filled, MANIFEST) == filled


def test_what_was_said_is_kept() -> None:
    said = GenerationRequest(
        prompt="a cat", width=96, height=128, num_inference_steps=100, guidance_scale=0.0, sampler="euler", seed=0
    )
    assert resolve(said, MANIFEST) == said


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ({"width": 65}, "invalid_dimensions", "/width"),  # row 22: not a multiple of 8
        ({"height": 60}, "invalid_dimensions", "/height"),
        ({"width": 24}, "invalid_dimensions", "/width"),  # row 23: outside the profile
        ({"height": 136}, "invalid_dimensions", "/height"),
        ({"width": 128, "height": 128}, "invalid_dimensions", "/width"),  # the pixel product
        ({"sampler": "lms"}, "invalid_parameter", "/sampler"),  # row 25
    ],
)
def test_what_the_model_cannot_make(said: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(DarkroomError) as refused:
        resolve(GenerationRequest(prompt="a cat", **said), MANIFEST)
    assert (refused.value.code, refused.value.field, refused.value.status) == (code, field, 422)


def test_steps_beyond_the_tables_are_out_of_range() -> None:
    content = changed(lambda content: content["samplers"].update(max_steps=50))
    with pytest.raises(DarkroomError) as refused:
        resolve(GenerationRequest(prompt="a cat", num_inference_steps=51), EngineManifest.model_validate(content))
    assert (refused.value.code, refused.value.field) == ("out_of_range", "/num_inference_steps")


SIZES = st.none() | st.sampled_from(range(8, 200, 8)) | st.integers(8, 8192)


@given(width=SIZES, height=SIZES, steps=st.none() | st.integers(1, 100))
def test_a_resolved_request_is_complete_and_within_the_limits(
    width: int | None, height: int | None, steps: int | None
) -> None:
    said = GenerationRequest(prompt="", width=width, height=height, num_inference_steps=steps)
    limits = MANIFEST.limits
    sizes = (width or MANIFEST.defaults.width, height or MANIFEST.defaults.height)
    possible = all(limits.min_size <= size <= limits.max_size and size % limits.multiple_of == 0 for size in sizes)
    if not possible or sizes[0] * sizes[1] > limits.max_pixels:
        with pytest.raises(InvalidDimensions):
            resolve(said, MANIFEST)
    else:
        filled = resolve(said, MANIFEST)
        assert (filled.width, filled.height) == sizes
        assert None not in filled.model_dump().values()
