"""Bodies of other services' clients: how they are understood, and what is refused of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.app import ControlPlane
from api.clients.pictures import accepted_format
from api.clients.predict_bodies import understood
from api.services import Services
from darkroom.contracts import GeneratedImage, GenerationResult, Job, JobStatus
from darkroom.errors import DarkroomError, Overloaded
from tests.fakes import api

PREDICT = "/v1/models/crayon:predict"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Each job has ended by the time that its caller waits for it; one whose prompt is `hold` has not."""
    kept: list[Services] = []

    async def wait(job: Job, _seconds: float) -> Job:
        (services,) = kept
        prompt = job.readable_request().prompt
        if prompt == "fail":
            services.jobs.settle(job.id, Overloaded().problem())
        elif prompt != "hold":
            key = f"images/{job.id}/0.png"
            services.store.put(key, b"\x89PNG")
            seed = job.readable_request().seed or 0
            image = GeneratedImage(
                key=key, seed=seed, width=8, height=8, content_type="image/png", size=4, sha256="0" * 64
            )
            services.jobs.settle(
                job.id, GenerationResult(images=[image], seed=seed, model="crayon", version="0" * 16, target="fake")
            )
        return services.jobs.get(job.id, tenant=job.tenant)

    with api.services(tmp_path, wait=wait) as made:
        kept.append(made)
        yield made


def ask(services: Services, body: Any, **headers: str) -> Any:
    return api.ask(ControlPlane(services), "POST", PREDICT, body, headers=headers)


def statuses(services: Services) -> dict[JobStatus, int]:
    return {status: count for status, count in services.jobs.counts().items() if count}


@pytest.mark.parametrize(
    ("body", "requests"),
    [
        ({"prompt": "a"}, [{"prompt": "a"}]),
        ({"instances": [{"prompt": "a"}, {"prompt": "b", "seed": 2}]}, [{"prompt": "a"}, {"prompt": "b", "seed": 2}]),
        (
            {"instances": [{"prompt": "a"}], "parameters": {"sampleCount": 2, "negativePrompt": "b", "seed": None}},
            [{"prompt": "a", "num_images": 2, "negative_prompt": "b"}],
        ),
        ({"inputs": "a"}, [{"prompt": "a"}]),
        (
            {"inputs": "a", "parameters": {"target_size": {"width": 64, "height": 32}, "scheduler": "ddim"}},
            [{"prompt": "a", "width": 64, "height": 32, "sampler": "ddim"}],
        ),
        (
            {"inputs": "QUJD", "parameters": {"prompt": "a", "strength": 0.5}, "options": {"use_cache": False}},
            [{"prompt": "a", "strength": 0.5, "image": "data:image/png;base64,QUJD"}],
        ),
    ],
)
def test_what_is_meant(body: Any, requests: list[Any]) -> None:
    assert understood(body).requests == requests


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"instances": {}}, "invalid_type", "/instances"),
        ({"instances": []}, "out_of_range", "/instances"),
        ({"instances": [{"prompt": "a"}] * 9}, "out_of_range", "/instances"),
        ({"instances": ["a"]}, "invalid_parameter", "/instances/0"),
        ({"instances": [{"prompt": "a"}, {"prompt": 5}]}, "invalid_type", "/instances/1/prompt"),
        ({"instances": [{"prompt": "a", "sampleImageSize": "1K"}]}, "unknown_field", "/instances/0/sampleImageSize"),
        ({"instances": [{"prompt": "a"}], "signature_name": "s"}, "unknown_field", "/signature_name"),
        ({"inputs": 5}, "invalid_type", "/inputs"),
        ({"inputs": "a", "parameters": []}, "invalid_type", "/parameters"),
        ({"inputs": "a", "parameters": {"target_size": 5}}, "invalid_type", "/parameters/target_size"),
        ({"inputs": "a", "parameters": {"num_images": 2}}, "invalid_parameter", "/parameters/num_images"),
        ({"inputs": "a", "parameters": {"seed": -1}}, "out_of_range", "/parameters/seed"),
        ({"inputs": "a", "parameters": {"scheduler": "x", "sampler": "y"}}, "invalid_parameter", "/parameters"),
        ({"inputs": "a", "instances": []}, "unknown_field", "/inputs"),
    ],
)
def test_what_is_refused(services: Services, body: Any, code: str, field: str) -> None:
    problem = ask(services, body).json()
    assert (problem["code"], problem.get("field")) == (code, field)
    assert statuses(services) == {}


def test_one_of_several_that_cannot_be_made_takes_the_others_along(services: Services) -> None:
    refused = ask(services, {"instances": [{"prompt": "a"}, {"prompt": "b", "width": 2048}]})
    assert refused.json()["code"] == "invalid_dimensions"
    assert statuses(services) == {JobStatus.CANCELLED: 1}


def test_one_of_several_that_fails_is_the_answer(services: Services) -> None:
    failed = ask(services, {"instances": [{"prompt": "hold"}, {"prompt": "a"}, {"prompt": "fail"}]})
    assert (failed.status_code, failed.json()["code"]) == (504, "still_at_work")
    failed = ask(services, {"instances": [{"prompt": "a"}, {"prompt": "fail"}, {"prompt": "hold"}]})
    assert (failed.status_code, failed.json()["code"]) == (503, "overloaded")
    assert statuses(services)[JobStatus.CANCELLED] == 1


def test_a_key_is_for_one_instance(services: Services) -> None:
    two = {"instances": [{"prompt": "a"}, {"prompt": "b"}]}
    assert ask(services, two, **{"idempotency-key": "one"}).json()["code"] == "invalid_parameter"
    one = {"instances": [{"prompt": "a", "seed": 1}]}
    first, again = (ask(services, one, **{"idempotency-key": "one"}).json() for _ in range(2))
    assert first["predictions"][0]["id"] == again["predictions"][0]["id"]


def test_the_image_itself(services: Services) -> None:
    answer = ask(services, {"prompt": "a"}, accept="image/webp;q=0.9, image/*")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", b"\x89PNG")
    job = services.jobs.find(answer.headers["location"].rpartition("/")[2])
    assert job.readable_request().output_format.value == "webp"
    kept = ask(services, {"prompt": "a", "output_format": "jpeg"}, accept="image/webp")
    job = services.jobs.find(kept.headers["location"].rpartition("/")[2])
    assert job.readable_request().output_format.value == "jpeg"
    several = ask(services, {"prompt": "a", "num_images": 2}, accept="image/png")
    assert (several.json()["code"], several.json()["field"]) == ("invalid_parameter", "/num_images")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        *(("", None), ("*/*", None), ("application/json", None), ("text/html, image/png", "png")),
        *(("application/json, image/png", None), ("IMAGE/JPEG", "jpeg"), ("image/gif", None), ("image/*", None)),
    ],
)
def test_when_a_caller_wants_the_image(accept: str, form: str | None) -> None:
    found = accepted_format({"accept": accept})
    assert (found and found.value) == form


def test_errors_are_problems_whoever_asks(services: Services) -> None:
    with pytest.raises(DarkroomError):
        understood({"instances": 5})
    assert ask(services, {"inputs": 5}).headers["content-type"] == "application/problem+json"
