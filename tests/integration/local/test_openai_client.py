"""OpenAI's own client, unchanged but for the base URL, against the whole deployment."""

from __future__ import annotations

import base64
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from darkroom.images import uploads
from tests.fakes import pictures
from tests.fakes.deployment import Running, running


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("openai"), api_keys="ann=a-key,bob=b-key", max_wait_seconds=60) as deployment:
        yield deployment


@pytest.fixture
def client(deployment: Running) -> Iterator[openai.OpenAI]:
    url = f"http://127.0.0.1:{deployment.port}/v1"
    with openai.OpenAI(base_url=url, api_key="a-key", max_retries=0) as client:
        yield client


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["crayon"]
    model = client.models.retrieve("crayon")
    assert (model.id, model.object, model.owned_by) == ("crayon", "model", "darkroom")


def test_an_image_by_itself(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="crayon", prompt="a dog")
    assert answer.data
    assert base64.b64decode(answer.data[0].b64_json or "").startswith(b"\x89PNG")
    assert (answer.output_format, answer.data[0].url) == ("png", None)


def test_all_that_it_may_be_asked_for(client: openai.OpenAI, deployment: Running) -> None:
    answer = client.images.generate(
        model="crayon",
        prompt="a dog",
        n=3,
        size="1024x1024",
        quality="high",
        background="opaque",
        output_format="png",
        moderation="low",
        user="somebody",
        extra_body={"seed": 7, "negative_prompt": "a cat", "num_inference_steps": 4, "guidance_scale": 3.5},
    )
    assert answer.data
    assert len(answer.data) == 3
    told = answer.model_dump()
    assert told["seed"] == 7
    assert "quality changes nothing here." in told["warnings"]
    assert any(warning.endswith("instead of 1024x1024.") for warning in told["warnings"])
    made = deployment.client.get(f"/v1/jobs/{told['id']}", headers={"x-api-key": "a-key"}).json()["request"]
    assert (made["num_images"], made["num_inference_steps"], made["negative_prompt"]) == (3, 4, "a cat")
    assert made["width"] == made["height"] < 1024


def test_an_edit_with_all_that_it_may_be_asked_for(client: openai.OpenAI, deployment: Running) -> None:
    image, mask = pictures.file(Image.new("RGB", (64, 32), "red")), pictures.file(Image.new("RGBA", (64, 32)))
    answer = client.images.edit(
        model="crayon",
        image=("image.png", image, "image/png"),
        mask=("mask.png", mask, "image/png"),
        prompt="a dog",
        n=2,
        size="auto",
        response_format="url",
        output_format="jpeg",
        quality="high",
        input_fidelity="high",
        user="somebody",
        extra_body={"seed": 7, "strength": 0.75, "num_inference_steps": 4, "guidance_scale": 3.5},
    )
    assert answer.data
    assert [bool(one.url) for one in answer.data] == [True, True]
    told = answer.model_dump()
    assert told["warnings"][:2] == ["quality changes nothing here.", "input_fidelity changes nothing here."]
    made = deployment.client.get(f"/v1/jobs/{told['id']}", headers={"x-api-key": "a-key"}).json()["request"]
    asked = ("num_images", "seed", "strength", "num_inference_steps", "guidance_scale", "output_format")
    assert [made[name] for name in asked] == [2, 7, 0.75, 4, 3.5, "jpeg"]
    assert "width" not in made, "it is the image's"
    for name, sent in (("image", image), ("mask", mask)):
        key = uploads.key_of("ann", made[name])
        assert key
        assert deployment.deployment.images.get(key) == sent


def test_an_edit_without_a_mask_draws_all_of_it_again(client: openai.OpenAI, deployment: Running) -> None:
    image = pictures.file(Image.new("RGB", (64, 32), "red"))
    told = client.images.edit(image=[("image.png", image)], prompt="a dog", stream=False).model_dump()
    made = deployment.client.get(f"/v1/jobs/{told['id']}", headers={"x-api-key": "a-key"}).json()["request"]
    assert (made["strength"], "mask" in made) == (0.8, False)


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"image": [b"a", b"b"]}, "invalid_parameter", "image"),
        ({"n": 9}, "out_of_range", "n"),
        ({"size": "huge"}, "invalid_parameter", "size"),
        ({"background": "transparent"}, "invalid_parameter", "background"),
        ({"extra_body": {"strength": 2}}, "out_of_range", "strength"),
        ({"extra_body": {"steps": 4}}, "unknown_field", "steps"),
        ({"extra_body": {"seed": "many"}}, "invalid_parameter", "seed"),
    ],
)
def test_edits_that_are_refused(client: openai.OpenAI, asked: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(**{"image": b"a", "prompt": "a dog", **asked})
    assert (refused.value.code, refused.value.param) == (code, param)


def test_an_edit_that_is_too_large(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.images.edit(image=b"a" * (9 << 20), prompt="a dog")
    assert (refused.value.status_code, refused.value.code) == (413, "payload_too_large")


def test_urls_on_request(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="m", prompt="a dog", size="auto", response_format="url")
    assert answer.data
    url = answer.data[0].url
    assert url
    with urllib.request.urlopen(url) as image:  # noqa: S310 (our own)
        assert image.read().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("asked", "kind", "code", "param"),
    [
        ({"model": "gpt-image-9"}, openai.NotFoundError, "model_not_found", None),
        ({"n": 9}, openai.BadRequestError, "out_of_range", "n"),
        ({"size": "huge"}, openai.BadRequestError, "invalid_parameter", "size"),
        ({"background": "transparent"}, openai.BadRequestError, "invalid_parameter", "background"),
        ({"output_format": "svg"}, openai.BadRequestError, "invalid_parameter", "output_format"),
        ({"stream": True}, openai.BadRequestError, "invalid_parameter", "stream"),
        ({"extra_body": {"steps": 4}}, openai.BadRequestError, "unknown_field", "steps"),
        ({"prompt": "fail:out_of_memory"}, openai.InternalServerError, "out_of_memory", None),
    ],
)
def test_refusals_in_its_own_form(
    client: openai.OpenAI, asked: dict[str, object], kind: type[openai.APIStatusError], code: str, param: str | None
) -> None:
    with pytest.raises(kind) as refused:
        client.images.generate(**{"model": "crayon", "prompt": "a dog", **asked})  # type: ignore[call-overload]
    assert (refused.value.code, refused.value.param) == (code, param)
    assert refused.value.request_id == refused.value.response.headers["x-request-id"]


def test_a_wrong_key(deployment: Running) -> None:
    url = f"http://127.0.0.1:{deployment.port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as stranger:
        for ask in (stranger.models.list, lambda: stranger.images.generate(prompt="a dog")):
            with pytest.raises(openai.AuthenticationError):
                ask()


def test_what_takes_too_long_is_told_and_not_asked_for_again(tmp_path: Path) -> None:
    with running(tmp_path, max_wait_seconds=0.2) as deployment:
        url = f"http://127.0.0.1:{deployment.port}/v1"
        with (
            openai.OpenAI(base_url=url, api_key="any", max_retries=2) as client,
            pytest.raises(openai.InternalServerError) as late,
        ):
            client.images.generate(model="crayon", prompt="hold")
        assert (late.value.status_code, late.value.code) == (504, "still_at_work")
        (job,) = deployment.deployment.jobs.overdue(accepted_before=1e12)
        assert job.id in late.value.message
        deployment.touch("go")
        assert deployment.finished(job.id)["status"] == "succeeded"
