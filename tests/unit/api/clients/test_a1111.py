"""AUTOMATIC1111's requests: how they are understood, and what is refused or said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.app import ControlPlane
from api.clients import a1111_lists
from api.routes import web_ui
from api.services import Services
from darkroom.contracts import GeneratedImage, GenerationResult, Job
from darkroom.settings import Settings
from tests.fakes import api

PREFIX = "/sdapi/v1"


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    kept: list[Services] = []
    monkeypatch.setattr("api.accepting.resolve", lambda requested, _manifest: requested.seeded())

    async def wait(job: Job, _seconds: float) -> Job:
        (services,) = kept
        request, images = job.readable_request(), []
        for index in range(request.num_images):
            key = f"images/{job.id}/{index}.png"
            services.store.put(key, b"\x89PNG")
            images.append(
                GeneratedImage(
                    key=key, seed=7 + index, width=8, height=8, content_type="image/png", size=4, sha256="0" * 64
                )
            )
        services.jobs.settle(
            job.id, GenerationResult(images=images, seed=7, model="crayon", version="0" * 16, target="fake")
        )
        return services.jobs.get(job.id, tenant=job.tenant)

    with api.services(tmp_path, wait=wait) as made:
        kept.append(made)
        yield made


def ask(services: Services, name: str, body: Any = None, method: str = "POST", **headers: str) -> Any:
    return api.ask(ControlPlane(services), method, f"{PREFIX}/{name}", body, headers=headers)


def request_of(services: Services, answer: Any) -> dict[str, Any]:
    job = services.jobs.find(json.loads(answer.json()["info"])["job"])
    return job.readable_request().model_dump(mode="json", exclude_defaults=True)


def test_a_request_is_ours(services: Services) -> None:
    answer = ask(
        services,
        "txt2img",
        {
            **{"prompt": "a dog", "negative_prompt": "a cat", "seed": 5, "steps": 12, "cfg_scale": 3, "eta": 1.0},
            **{"batch_size": 2, "n_iter": 2, "width": 64, "height": 64, "sampler_name": "DDIM", "s_noise": 1},
            **{"enable_hr": False, "styles": [], "override_settings": {"sd_model_checkpoint": "crayon [0123]"}},
        },
    )
    assert answer.status_code == 200, answer.text
    assert request_of(services, answer) == {
        **{"prompt": "a dog", "negative_prompt": "a cat", "seed": 5, "num_inference_steps": 12, "guidance_scale": 3.0},
        **{"num_images": 4, "width": 64, "height": 64, "sampler": "ddim"},
    } | {name: value for name, value in request_of(services, answer).items() if name == "cache"}
    told = answer.json()
    assert (told["images"], told["warnings"]) == (["iVBORw=="] * 4, [])
    info = json.loads(told["info"])
    assert (info["all_seeds"], info["sampler_name"], info["sd_model_name"]) == ([7, 8, 9, 10], "DDIM", "crayon")
    assert info["infotexts"][1].startswith("a dog\nSteps: 12, Sampler: DDIM, CFG scale: 3.0, Size: 64x64, Model")
    assert told["parameters"]["prompt"] == "a dog"


@pytest.mark.parametrize(
    ("asked", "warning"),
    [
        ({"sampler_name": "DPM++ SDE Karras"}, "This model has no sampler DPM++ SDE Karras; its own was used."),
        ({"width": 4096, "height": 4096}, "instead of 4096x4096."),
        ({"prompt": "a (large:1.3) dog"}, "Brackets in a prompt weigh nothing here"),
        ({"prompt": "a [small] dog"}, "Brackets in a prompt weigh nothing here"),
        ({"sampler_name": "DDIM", "scheduler": "karras"}, "scheduler changes nothing here"),
    ],
)
def test_what_is_not_as_it_was_asked_for_is_said(services: Services, asked: dict[str, Any], warning: str) -> None:
    answer = ask(services, "txt2img", {"prompt": "a dog", **asked})
    assert answer.status_code == 200, answer.text
    assert any(warning in said for said in answer.json()["warnings"]), answer.json()["warnings"]
    assert json.loads(answer.json()["info"])["warnings"] == answer.json()["warnings"]


def test_brackets_that_are_escaped_are_brackets(services: Services) -> None:
    assert ask(services, "txt2img", {"prompt": r"a dog \(black\)"}).json()["warnings"] == []


@pytest.mark.parametrize(
    ("asked", "status", "error", "detail"),
    [
        ({"enable_hr": True}, 422, "invalid_parameter", "enable_hr cannot be done here"),
        ({"styles": ["x"]}, 422, "invalid_parameter", "styles"),
        ({"subseed_strength": 0.5}, 422, "invalid_parameter", "subseed_strength"),
        ({"script_name": "x/y/z plot"}, 422, "invalid_parameter", "script_name"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"model": "canny"}]}}}, 422, "invalid_parameter", "scripts"),
        ({"prompt": "a dog <lora:fur:0.8>"}, 422, "invalid_parameter", "<lora:fur:0.8>"),
        ({"batch_size": 4, "n_iter": 4}, 422, "out_of_range", "batch_size x n_iter"),
        ({"steps": 101}, 422, "out_of_range", "steps"),
        ({"cfg_scale": "7"}, 422, "invalid_type", "cfg_scale"),
        ({"seed": -2}, 422, "out_of_range", "seed"),
        ({"override_settings": {"sd_model_checkpoint": "other"}}, 404, "model_not_found", "no"),
    ],
)
def test_what_changes_the_picture_and_cannot_be_done_is_refused(
    services: Services, asked: dict[str, Any], status: int, error: str, detail: str
) -> None:
    answer = ask(services, "txt2img", {"prompt": "a dog", **asked})
    told = answer.json()
    assert (answer.status_code, told["error"]) == (status, error)
    assert detail in told["detail"]


def test_scripts_that_are_off_are_not_asked_for(services: Services) -> None:
    scripts = {"ADetailer": {"args": [False]}, "ControlNet": {"args": []}}
    assert ask(services, "txt2img", {"prompt": "a", "alwayson_scripts": scripts}).status_code == 200


def test_an_image_drawn_again(services: Services) -> None:
    body = {
        **{"prompt": "a dog", "init_images": ["iVBORw=="], "denoising_strength": 0.5},
        **{"mask": "data:image/png;base64,iVBORw==", "mask_blur": 4, "inpaint_full_res": False},
    }
    answer = ask(services, "img2img", body)
    assert answer.status_code == 200, answer.text
    request = request_of(services, answer)
    assert request["strength"] == 0.5
    assert request["image"].startswith("upload:")
    assert request["mask"].startswith("upload:")
    assert request["mask_alpha"] == "opaque", "what was painted, as the web UI reads it"
    assert answer.json()["warnings"] == ["mask_blur changes nothing here."]
    assert "init_images" not in answer.json()["parameters"]
    for wrong in ({"init_images": []}, {"init_images": ["a", "b"]}, {"inpainting_mask_invert": 1}):
        assert ask(services, "img2img", {**body, **wrong}).status_code == 422


def test_a_seed_of_minus_one_is_none(services: Services) -> None:
    seeds = {request_of(services, ask(services, "txt2img", {"prompt": "a", "seed": -1}))["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_lists(services: Services) -> None:
    assert set(web_ui.LISTS) == set(a1111_lists.LISTS)
    for name in web_ui.LISTS:
        assert ask(services, name, method="GET").status_code == 200
    (model,) = ask(services, "sd-models", method="GET").json()
    assert (model["title"], model["model_name"]) == ("crayon", "crayon")
    assert ask(services, "nothing", method="GET").status_code == 404


def test_options_that_hold_can_be_set(services: Services) -> None:
    assert ask(services, "options", {"sd_model_checkpoint": "crayon"}).status_code == 200
    assert ask(services, "options", {"sd_model_checkpoint": "other"}).status_code == 404
    assert ask(services, "options", {"samples_format": "webp"}).status_code == 422
    assert ask(services, "options", []).status_code == 422


def test_the_key_is_basics_password(tmp_path: Path) -> None:
    with api.services(tmp_path, Settings(api_keys="ann=a:key")) as services:
        for basic, status in (("YW55Ym9keTphOmtleQ==", 200), ("YW55Ym9keTpub25l", 401), ("!", 401), ("/w==", 401)):
            answer = ask(services, "options", method="GET", authorization=f"Basic {basic}")
            assert answer.status_code == status
