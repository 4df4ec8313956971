"""A request from parsed JSON: what passes, and in which words the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from darkroom.contracts import (
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    GenerationRequest,
    Invocation,
    Job,
    JobStatus,
    OutputFormat,
)
from darkroom.errors import DarkroomError, UnknownField
from darkroom.parsing import parse_request

PIXEL = "data:image/png;base64,iVBORw0KGgo="
URL = "https://example.com/a.png"
TOO_LONG = "a" * (MAX_PROMPT_CHARACTERS + 1)


def test_a_prompt_is_enough() -> None:
    request = parse_request({"prompt": "a cat"})
    assert request == GenerationRequest(prompt="a cat")
    assert (request.seed, request.width, request.num_images, request.output_format) == (None, None, 1, OutputFormat.PNG)


def test_everything_can_be_said() -> None:
    said = {
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "width": 128,
        "height": 64,
        "num_inference_steps": 8,
        "guidance_scale": 2,
        "sampler": "dpmpp_2m",
        "seed": MAX_SEED,
        "num_images": 8,
        "output_format": "webp",
        "cache": "off",
        "image": "https://example.com/a.png",
        "strength": 0.5,
        "mask": PIXEL,
        "control": [
            {
                "type": "canny",
                "image": "upload:1b4e28ba",
                "scale": 0.5,
                "start": 0.25,
                "end": 0.75,
                "low_threshold": 10,
                "high_threshold": 20,
                "preprocess": False,
            }
        ],
    }
    assert parse_request(said).model_dump() == said


def test_what_is_not_said_of_images_is_not_in_the_json() -> None:
    assert not {"image", "mask", "strength", "control"} & GenerationRequest(prompt="a cat").model_dump().keys()


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        (None, "invalid_parameter", None),  # row 4
        ([], "invalid_parameter", None),
        ("a cat", "invalid_parameter", None),
        ({}, "invalid_parameter", "/prompt"),
        ({"prompt": None}, "invalid_type", "/prompt"),  # rows 9 and 10
        ({"prompt": 7}, "invalid_type", "/prompt"),
        ({"prompt": ["a cat"]}, "invalid_type", "/prompt"),
        ({"width": "128"}, "invalid_type", "/width"),
        ({"width": 128.0}, "invalid_type", "/width"),
        ({"seed": True}, "invalid_type", "/seed"),
        ({"guidance_scale": False}, "invalid_type", "/guidance_scale"),
        ({"guidance_scale": "7.5"}, "invalid_type", "/guidance_scale"),
        ({"num_images": None}, "invalid_type", "/num_images"),
        ({"stepz": 4}, "unknown_field", "/stepz"),  # row 11
        ({"a/b~c": 4}, "unknown_field", "/a~1b~0c"),
        ({"guidance_scale": float("nan")}, "not_finite", "/guidance_scale"),  # rows 12 and 13
        ({"guidance_scale": float("inf")}, "not_finite", "/guidance_scale"),
        ({"prompt": TOO_LONG}, "prompt_too_long", "/prompt"),  # row 18
        ({"negative_prompt": TOO_LONG}, "prompt_too_long", "/negative_prompt"),
        ({"num_inference_steps": 0}, "out_of_range", "/num_inference_steps"),  # rows 19 to 21
        ({"num_inference_steps": 10**9}, "out_of_range", "/num_inference_steps"),
        ({"num_images": 10**6}, "out_of_range", "/num_images"),
        ({"num_images": 0}, "out_of_range", "/num_images"),
        ({"guidance_scale": -0.1}, "out_of_range", "/guidance_scale"),
        ({"width": 0}, "invalid_dimensions", "/width"),  # rows 22 and 23
        ({"height": -8}, "invalid_dimensions", "/height"),
        ({"height": 10**30}, "invalid_dimensions", "/height"),
        ({"seed": -1}, "out_of_range", "/seed"),  # row 24
        ({"seed": 2**32}, "out_of_range", "/seed"),
        ({"seed": 10**400}, "out_of_range", "/seed"),
        ({"sampler": "../../etc/passwd"}, "invalid_parameter", "/sampler"),  # row 25
        ({"sampler": "ddim\n"}, "invalid_parameter", "/sampler"),
        ({"output_format": "gif"}, "invalid_parameter", "/output_format"),
        ({"cache": "yes"}, "invalid_parameter", "/cache"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_wrong_is_said_with_its_place(said: Any, code: str, field: str | None) -> None:
    whole = {"prompt": "a cat"} | said if isinstance(said, dict) and said else said
    with pytest.raises(DarkroomError) as refused:
        parse_request(whole)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"promt": "a"}, "prompt"),
        ({"negative-prompt": "a"}, "negative_prompt"),
        ({"steps": 4}, "num_inference_steps"),
        ({"cfg_scale": 4}, "guidance_scale"),
        ({"Seed": 4}, "seed"),
        ({"scheduler": "ddim"}, "sampler"),
        ({"control": {"scales": 1}, "image": "https://a"}, "scale"),
    ],
)
def test_a_member_that_is_nearly_one_is_named(said: dict[str, Any], meant: str) -> None:
    with pytest.raises(UnknownField, match=f"did you mean {meant}[.]$"):
        parse_request({"prompt": "a"} | said)


def test_a_member_like_no_other_is_not_guessed() -> None:
    with pytest.raises(UnknownField, match=r"see /openapi\.json"):
        parse_request({"prompt": "a", "x" * 9999: 1})


def test_a_refusal_never_repeats_what_was_sent() -> None:
    secret = "sk-very-secret"
    for said in ({"prompt": "a", "width": secret}, {"prompt": [secret]}, {"prompt": "a", "sampler": secret + "!"}):
        with pytest.raises(DarkroomError) as refused:
            parse_request(said)
        assert secret not in refused.value.problem().model_dump_json()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=3
)
MEMBERS = st.dictionaries(st.sampled_from([*GenerationRequest.model_fields, "x" * 9999, "", "a/b"]), ANY)


def outcome(value: Any) -> GenerationRequest | DarkroomError:
    try:
        return parse_request(value)
    except DarkroomError as refused:
        return refused


@given(MEMBERS | ANY)
def test_any_json_makes_a_request_or_a_short_refusal(value: Any) -> None:
    made = outcome(value)
    if isinstance(made, DarkroomError):
        assert made.status == 422
        assert len(made.problem().model_dump_json()) < 2000
    else:
        kept = {name: value[name] for name in made.model_fields_set}
        assert made.model_dump(include=set(kept)) == kept


REQUESTS = st.builds(
    GenerationRequest,
    prompt=st.text(st.characters(codec="utf-8")),
    seed=st.none() | st.integers(0, MAX_SEED),
    width=st.none() | st.integers(8, 8192),
    guidance_scale=st.none() | st.floats(0, 50),
    output_format=st.sampled_from(OutputFormat),
)


@given(REQUESTS)
def test_a_request_survives_the_wire(request_: GenerationRequest) -> None:
    sent = Invocation(id="a-b_1", request=request_, deadline_seconds=1.5)
    assert Invocation.model_validate_json(sent.model_dump_json()) == sent
    job = Job(id="1", tenant="t", model="crayon", request=request_, created_at=1.5)
    assert Job.model_validate_json(job.model_dump_json()) == job


def test_a_seed_is_drawn_once() -> None:
    drawn = GenerationRequest(prompt="a cat").seeded()
    assert drawn.seed is not None
    assert 0 <= drawn.seed <= MAX_SEED
    assert drawn.seeded() is drawn


def test_contracts_are_frozen() -> None:
    with pytest.raises(ValidationError):
        GenerationRequest(prompt="a cat").prompt = "a dog"  # type: ignore[misc]


@pytest.mark.parametrize("bad", ["", "a/b", "../a", "a" * 65, "a b"])
def test_an_invocations_id_is_fit_for_a_key(bad: str) -> None:
    with pytest.raises(ValidationError):
        Invocation(id=bad, request=GenerationRequest(prompt="a cat"))


def test_which_statuses_are_final() -> None:
    assert {status for status in JobStatus if not status.finished} == {JobStatus.QUEUED, JobStatus.RUNNING}


# ---- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"image": URL},
        {"image": PIXEL},
        {"image": "HTTPS://EXAMPLE.COM/A"},
        {"image": "upload:1b4e28ba"},
        {"image": URL, "strength": 1},
        {"image": URL, "mask": PIXEL},
        {"image": URL, "control": {}},
        {"image": URL, "strength": 0.5, "control": {"image": PIXEL}},
        {"control": {"image": PIXEL}},
        {"image": URL, "control": [{"image": PIXEL}, {}]},
    ],
)
def test_an_image_and_what_it_is_for(said: dict[str, Any]) -> None:
    request = parse_request({"prompt": "a cat", **said})
    assert request == GenerationRequest.model_validate_json(request.model_dump_json())


def test_one_control_is_a_list_of_one() -> None:
    one, several = ({"prompt": "a cat", "image": URL, "control": said} for said in ({"scale": 2}, [{"scale": 2}]))
    assert parse_request(one) == parse_request(several)


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ({"strength": 0.5}, "image_source_conflict", "/image"),  # row 50: neither source
        ({"mask": PIXEL}, "image_source_conflict", "/image"),
        ({"control": {}}, "image_source_conflict", "/control"),
        ({"control": [{"image": URL}, {}]}, "image_source_conflict", "/control"),
        ({"image": URL, "control": {"image": PIXEL}}, "image_source_conflict", "/image"),  # both
        ({"image": ""}, "image_url_rejected", "/image"),  # rows 35 to 37
        ({"image": "file:///etc/passwd"}, "image_url_rejected", "/image"),
        ({"image": "ftp://example.com/a.png"}, "image_url_rejected", "/image"),
        ({"image": "gopher://example.com"}, "image_url_rejected", "/image"),
        ({"image": "data:text/html;base64,QQ=="}, "image_url_rejected", "/image"),
        ({"image": "data:image/png,raw"}, "image_url_rejected", "/image"),
        ({"image": "upload:../secrets"}, "image_url_rejected", "/image"),
        ({"image": "data:image/png;base64,QQ"}, "invalid_base64", "/image"),
        ({"image": "data:image/png;base64,Q Q="}, "invalid_base64", "/image"),
        ({"image": "data:image/png;base64,é"}, "invalid_base64", "/image"),
        ({"image": "https://" + "a" * 1_000_000}, "image_too_large", "/image"),
        ({"image": 7}, "invalid_type", "/image"),
        ({"image": URL, "mask": "file:///x"}, "image_url_rejected", "/mask"),
        ({"image": URL, "strength": 0}, "out_of_range", "/strength"),
        ({"image": URL, "strength": 1.01}, "out_of_range", "/strength"),
        ({"image": URL, "strength": float("nan")}, "not_finite", "/strength"),
        ({"image": URL, "control": 5}, "invalid_type", "/control"),
        ({"image": URL, "control": []}, "invalid_parameter", "/control"),
        ({"image": URL, "control": [{}] * 5}, "invalid_parameter", "/control"),
        ({"image": URL, "control": {"scale": 3}}, "out_of_range", "/control/scale"),
        ({"image": URL, "control": [{}, {"scale": -1}]}, "out_of_range", "/control/1/scale"),
        ({"image": URL, "control": {"start": 0.5, "end": 0.5}}, "out_of_range", "/control"),
        ({"image": URL, "control": {"low_threshold": 250}}, "out_of_range", "/control"),
        ({"image": URL, "control": {"strenght": 1}}, "unknown_field", "/control/strenght"),
        ({"image": URL, "control": {"type": "Canny!"}}, "invalid_parameter", "/control/type"),
        ({"control": {"image": "file:///x"}}, "image_url_rejected", "/control/image"),
    ],
)
def test_images_that_are_refused(said: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(DarkroomError) as refused:
        parse_request({"prompt": "a cat", **said})
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.detail.endswith(".")
    assert "/etc/passwd" not in refused.value.detail
