"""A finished image as the image of another request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import ControlPlane
from api.services import Services
from darkroom.contracts import GenerationRequest, Job
from darkroom.images import uploads
from darkroom.settings import Settings
from tests.fakes import api

PNG = b"\x89PNG a picture"
KEYS = {"ann": {"x-api-key": "1"}, "bob": {"x-api-key": "2"}}


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr("api.accepting.resolve", lambda requested, _manifest: requested)
    with api.services(tmp_path, Settings(api_keys="ann=1,bob=2")) as services:
        yield services


@pytest.fixture
def job(services: Services) -> Job:
    """Of ann's, and finished."""
    made = services.jobs.create("crayon", GenerationRequest(prompt="a dog"), tenant="ann", idempotency=None).job
    return api.finish(services, made, PNG)


def ask(services: Services, tenant: str = "ann", **asked: Any) -> httpx.Response:
    headers = {**KEYS[tenant], "prefer": "respond-async"}
    body = {"prompt": "a cat", "strength": 0.5, **asked}
    return api.ask(ControlPlane(services), "POST", "/v1/models/crayon:predict", body, headers=headers)


def test_by_its_job_or_by_its_url(services: Services, job: Job) -> None:
    url = services.store.url(f"images/{job.id}/0.png", expires=60)
    expired = url.partition("?")[0] + "?expires=1&signature=00"
    for source in (f"job:{job.id}/0", url, expired):
        answer = ask(services, image=source, mask=source, control=[{"image": source}])
        assert answer.status_code == 202, answer.text
        stored = services.jobs.find(answer.json()["id"]).readable_request()
        assert len(stored.sources) == 3
        for kept in stored.sources:
            key = uploads.key_of("ann", kept)
            assert key
            assert services.store.get(key) == PNG


@pytest.mark.parametrize("source", ["job:{}/1", "job:unknown/0", "job:{}/7"])
def test_one_that_is_not_there_is_refused(services: Services, job: Job, source: str) -> None:
    answer = ask(services, image=source.format(job.id))
    assert (answer.status_code, answer.json()["code"]) == (422, "image_url_rejected")
    assert list(services.store.keys("uploads/")) == []


def test_anothers_is_as_if_it_were_not_there(services: Services, job: Job) -> None:
    assert ask(services, "bob", image=f"job:{job.id}/0").json()["code"] == "image_url_rejected"
    url = services.store.url(f"images/{job.id}/0.png", expires=60)
    answer = ask(services, "bob", image=url)  # a URL like any other: the runtime decides, and fetches none of ours
    assert services.jobs.find(answer.json()["id"]).readable_request().image == url
    assert list(services.store.keys("uploads/")) == []


@pytest.mark.parametrize("host", ["https://elsewhere.example", "https://images.example.evil.example"])
def test_an_address_elsewhere_with_the_same_path_is_not_ours(services: Services, job: Job, host: str) -> None:
    url = services.store.url(f"images/{job.id}/0.png", expires=60).replace("https://images.example", host)
    answer = ask(services, image=url)
    assert services.jobs.find(answer.json()["id"]).readable_request().image == url


def test_one_that_was_deleted(services: Services, job: Job) -> None:
    services.store.delete(f"images/{job.id}/0.png")
    assert ask(services, image=f"job:{job.id}/0").json()["code"] == "image_url_rejected"


@pytest.mark.parametrize("source", ["job:", "job:a", "job:a/8", "job:a/00", "job:../0", "job:a/0/0", "JOB:a/0"])
def test_what_names_no_image(services: Services, source: str) -> None:
    answer = ask(services, image=source)
    assert (answer.status_code, answer.json()["code"]) == (422, "image_url_rejected")
