"""A tenant's jobs: listed, placed in the queue, deleted with their images; and finished images by their own address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import ControlPlane
from api.services import Services
from darkroom.contracts import GenerationRequest
from darkroom.settings import Settings
from tests.fakes import api

KEYS = {"ann": {"x-api-key": "1"}, "bob": {"x-api-key": "2"}}
PNG = b"\x89PNG a picture"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with api.services(tmp_path, Settings(api_keys="ann=1,bob=2", image_days=7)) as services:
        yield services


def ask(services: Services, method: str, path: str, tenant: str = "ann", **headers: str) -> httpx.Response:
    return api.ask(ControlPlane(services), method, path, headers={**KEYS[tenant], **headers})


def accepted(services: Services, tenant: str = "ann") -> str:
    return services.jobs.create("crayon", GenerationRequest(prompt="a dog"), tenant=tenant, idempotency=None).job.id


def finished(services: Services, tenant: str = "ann") -> str:
    return api.finish(services, services.jobs.find(accepted(services, tenant)), PNG).id


def told(services: Services, path: str, tenant: str = "ann") -> Any:
    answer = ask(services, "GET", path, tenant)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_list_is_ones_own_newest_first_with_fresh_urls(services: Services) -> None:
    first, _other, second = finished(services), finished(services, "bob"), accepted(services)
    listed = told(services, "/v1/jobs")
    assert [job["id"] for job in listed["jobs"]] == [second, first]
    assert [job["status"] for job in listed["jobs"]] == ["queued", "succeeded"]
    assert f"/objects/images/{first}/0.png?expires=" in listed["jobs"][1]["image"]
    assert "next" not in listed
    page = told(services, "/v1/jobs?limit=1")
    assert [job["id"] for job in page["jobs"]] == [second]
    rest = told(services, f"/v1/jobs?limit=1&cursor={page['next']}")
    assert [job["id"] for job in rest["jobs"]] == [first]
    assert [job["id"] for job in told(services, "/v1/jobs?status=succeeded")["jobs"]] == [first]


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("limit=0", "out_of_range", "/limit"),
        ("limit=101", "out_of_range", "/limit"),
        ("limit=1&limit=2", "out_of_range", "/limit"),
        ("status=done", "invalid_parameter", "/status"),
        ("cursor=abc", "invalid_parameter", "/cursor"),
        ("cursor=" + "9" * 30, "invalid_parameter", "/cursor"),
        ("page=2", "invalid_parameter", "/page"),
    ],
)
def test_lists_that_are_refused(services: Services, query: str, code: str, field: str) -> None:
    answer = ask(services, "GET", f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, code, field)


def test_a_queued_job_tells_its_place(services: Services) -> None:
    mine = [accepted(services) for _ in range(2)]
    assert [told(services, f"/v1/jobs/{job}")["position"] for job in mine] == [1, 2]
    assert services.jobs.claim("w", models=["crayon"])
    assert "position" not in told(services, f"/v1/jobs/{mine[0]}")
    assert told(services, f"/v1/jobs/{mine[1]}")["position"] == 1


def test_a_finished_job_is_deleted_with_its_images_by_its_tenant_alone(services: Services) -> None:
    job, other = finished(services), finished(services)
    services.store.put(f"images/{job}/control-0.png", PNG)
    assert ask(services, "DELETE", f"/v1/jobs/{job}", "bob").json()["code"] == "job_not_found"
    assert list(services.store.keys(f"images/{job}/"))
    assert ask(services, "DELETE", f"/v1/jobs/{job}").status_code == 204
    assert list(services.store.keys("images/")) == [f"images/{other}/0.png"]
    assert ask(services, "GET", f"/v1/jobs/{job}").status_code == 404


def test_an_image_by_its_own_address(services: Services) -> None:
    job = finished(services)
    answer = ask(services, "GET", f"/v1/images/{job}-0")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, PNG, "image/png")
    etag = answer.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = ask(services, "GET", f"/v1/images/{job}-0", **{"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert ask(services, "GET", f"/v1/images/{job}-0", **{"if-none-match": '"other"'}).status_code == 200


def test_images_that_are_not_there(services: Services) -> None:
    job, waiting = finished(services), accepted(services)
    paths = [f"{job}-1", f"{job}-8", job, f"{waiting}-0", "unknown-0", "-0"]
    refused = [ask(services, "GET", f"/v1/images/{path}") for path in paths]
    refused.append(ask(services, "GET", f"/v1/images/{job}-0", "bob"))
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(404, "image_not_found")}
    services.store.delete(f"images/{job}/0.png")
    assert ask(services, "GET", f"/v1/images/{job}-0").json()["code"] == "image_not_found"


def test_what_was_kept_for_as_long_as_was_promised_has_no_urls(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, now = finished(services), services.jobs.find(finished(services)).created_at
    monkeypatch.setattr("api.answers.time.time", lambda: now + 6.9 * 86_400)
    assert "image" in told(services, f"/v1/jobs/{job}")
    monkeypatch.setattr("api.answers.time.time", lambda: now + 7.1 * 86_400)
    document = told(services, f"/v1/jobs/{job}")
    assert ("image" in document, "images" in document, document["seed"]) == (False, False, 1)
    assert [warning["code"] for warning in document["warnings"]] == ["images_deleted"]
