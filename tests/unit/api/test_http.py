"""What HTTP lets a client do beside its document: compress, add a slash, ask from a page elsewhere, come back."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import events
from api.app import ControlPlane
from api.limits.origins import Origins
from api.readiness import Readiness
from api.schemas.jobs import JobDocument
from api.services import Services
from api.waiting import News
from darkroom.contracts import Job, JobStatus, Progress
from darkroom.errors import JobStoreUnavailable, StorageUnavailable
from darkroom.settings import Settings, SettingsError
from tests.fakes import api

PREDICT, DOG, NOW = "/v1/models/crayon:predict", {"prompt": "a dog"}, {"prefer": "respond-async"}
GZIP = {"content-encoding": "gzip", "content-type": "application/json", **NOW}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with api.services(tmp_path) as services:
        yield services


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ---- bodies -------------------------------------------------------------------------------------------------------


def test_a_body_may_be_compressed(services: Services) -> None:
    answer = api.ask(ControlPlane(services), "POST", PREDICT, gzip.compress(json.dumps(DOG).encode()), headers=GZIP)
    assert answer.status_code == 202
    assert services.jobs.find(answer.json()["id"]).readable_request().prompt == "a dog"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (gzip.compress(b" " * 3_000_000, mtime=0), (413, "payload_too_large")),
        (gzip.compress(b"{}", mtime=0)[:-1], (400, "malformed_request")),
        (gzip.compress(b"{}", mtime=0) + b"more", (400, "malformed_request")),
        (gzip.compress(b"{}", mtime=0) * 2, (400, "malformed_request")),
        (zlib.compress(b"{}"), (400, "malformed_request")),
        (b"{}", (400, "malformed_request")),
        (b"", (400, "malformed_request")),
        (gzip.compress(b"{", mtime=0), (400, "malformed_json")),
    ],
)
def test_compressed_bodies_that_are_refused(services: Services, body: bytes, expected: tuple[int, str]) -> None:
    assert refusal(api.ask(ControlPlane(services), "POST", PREDICT, body, headers=GZIP)) == expected


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_other_encodings_are_refused(services: Services, encoding: str) -> None:
    answer = api.ask(ControlPlane(services), "POST", PREDICT, b"{}", headers={**GZIP, "content-encoding": encoding})
    assert refusal(answer) == (415, "unsupported_media_type")


def test_a_slash_at_the_end_changes_nothing(services: Services) -> None:
    app = ControlPlane(services)
    assert api.ask(app, "GET", "/v1/models/").json() == api.ask(app, "GET", "/v1/models").json()
    assert api.ask(app, "POST", f"{PREDICT}/", DOG, headers=NOW).status_code == 202


# ---- what refusals say --------------------------------------------------------------------------------------------


def test_refusals_say_what_there_is(services: Services) -> None:
    services.manifests.current("crayon")
    for path, body, headers, detail in (
        (
            PREDICT,
            b" " * 3_000_000,
            {},
            "The body may have at most 2097152 bytes; send images ahead of it, by POST /v1/",
        ),
        (PREDICT, {**DOG, "sampler": "Euler a"}, {}, "sampler must be one of this model's: ddim, euler."),
        (PREDICT, {**DOG, "steps": 4}, {}, "This member is not part of the request; did you mean num_inference_steps."),
        ("/v1/models/cryon:predict", DOG, {}, "There is no model of this name; there is crayon."),
        ("/v1/uploads", {"sise": 4, "size": 5}, {}, "This member is not part of the request; did you mean size."),
    ):
        answer = api.ask(ControlPlane(services), "POST", path, body, headers=headers)
        assert answer.json()["detail"].startswith(detail)


# ---- pages elsewhere ----------------------------------------------------------------------------------------------


def with_pages(services: Services, pages: str) -> ControlPlane:
    settings = Settings(cors_origins=pages)
    parts = {**services.__dict__, "settings": settings, "origins": Origins([], "", settings.pages())}
    return ControlPlane(Services(**{name: parts[name] for name in Services.__dataclass_fields__}))


def test_pages_that_are_named_may_ask(services: Services) -> None:
    app, page = with_pages(services, "https://app.example, http://localhost:3000"), {"origin": "https://app.example"}
    host = {"host": "localhost"}
    before = {**host, **page, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    leave = api.ask(app, "OPTIONS", PREDICT, headers=before)
    assert (leave.status_code, leave.headers["access-control-allow-origin"]) == (200, page["origin"])
    assert "x-api-key" in leave.headers["access-control-allow-headers"]
    answer = api.ask(app, "POST", PREDICT, DOG, headers={**host, **page, **NOW})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, page["origin"])
    assert "Location" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    for other in ("https://evil.example", "http://app.example", "https://app.example:444", "null"):
        refused = api.ask(app, "POST", PREDICT, DOG, headers={**host, **NOW, "origin": other})
        assert refusal(refused) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in refused.headers


def test_an_error_can_be_read_by_the_page(services: Services) -> None:
    headers = {"host": "localhost", "origin": "https://any.example"}
    answer = api.ask(with_pages(services, "*"), "POST", PREDICT, {"prompt": 5}, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (422, "*")


def test_without_the_setting_nothing_is_said_of_pages(services: Services) -> None:
    answer = api.ask(ControlPlane(services), "GET", "/v1/models", headers={"origin": "https://app.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("pages", ["app.example", "https://app.example/", "https://app.example/page", "ftp://a", "a,*"])
def test_what_is_no_origin_is_refused(pages: str) -> None:
    with pytest.raises(SettingsError, match="DARKROOM_CORS_ORIGINS"):
        Settings.read({"DARKROOM_CORS_ORIGINS": pages})


@pytest.mark.parametrize("url", ["foo", "//host", "ftp://host", "https://", "http://host?a=1", "http://host#a"])
def test_what_is_no_public_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="DARKROOM_PUBLIC_URL"):
        Settings.read({"DARKROOM_PUBLIC_URL": url})


# ---- events -------------------------------------------------------------------------------------------------------

JOB = Job(id="a", tenant="t", model="m", request=None, status=JobStatus.RUNNING, created_at=1.0, attempts=1)


def told(seen: int, *steps: int) -> list[str]:
    """The ids of the progress events of a job that makes these steps, for who has heard of `seen`."""

    async def news() -> AsyncIterator[News | Job | None]:
        for step in steps:
            yield News(Progress(step=step, steps=9))
        yield JOB.model_copy(update={"status": JobStatus.CANCELLED})

    async def document(job: Job) -> JobDocument:
        return JobDocument.model_validate(
            {
                "id": job.id,
                "status": job.status,
                "model": "m",
                "created_at": 1,
                "progress": Progress(),
                "request_id": "r",
            }
        )

    async def all_of_it() -> str:
        first = events.snapshot(await document(JOB), seen)
        return "".join([part async for part in events.stream(first, 0, seen, news(), document)])

    return [line for line in asyncio.run(all_of_it()).splitlines() if line.startswith(("event", "id", "retry"))]


def test_progress_never_goes_back() -> None:
    """A job that another worker began again was at its first step again."""
    ids = [line for line in told(-1, 1, 2, 3, 1, 2, 3, 4) if line.startswith("id")]
    assert ids == ["id: 0", "id: 1", "id: 2", "id: 3", "id: 3", "id: 4", "id: 0"]


def test_who_comes_back_hears_of_nothing_twice() -> None:
    assert told(3, 2, 3, 4)[:2] == ["event: progress", "id: 4"]
    assert [line for line in told(3, 2, 4) if line.startswith("id")] == ["id: 4", "id: 0"]


@pytest.mark.parametrize(("header", "seen"), [("3", 3), ("", -1), ("x", -1), ("-1", -1), ("9" * 30, -1)])
def test_the_last_event_that_was_seen(header: str, seen: int) -> None:
    assert events.last_seen({"last-event-id": header}) == seen


# ---- readiness ----------------------------------------------------------------------------------------------------


def failing(failure: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise failure

    return fail


def test_ping_is_ready_while_both_stores_answer(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was 200 while neither did."""
    assert api.ask(ControlPlane(services), "GET", "/ping").json() == {"status": "ready"}
    for attribute, name, failure, says in (
        (services.jobs, "find", JobStoreUnavailable(), "The job store does not answer."),
        (services.store, "keys", StorageUnavailable(), "The object store does not answer."),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(attribute, name, failing(failure))
            services.__dict__.pop("readiness", None)
            answer = api.ask(ControlPlane(services), "GET", "/ping")
            assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "detail": says})


def test_a_store_that_hangs_is_asked_once_and_not_waited_for(services: Services) -> None:
    async def look() -> tuple[list[str], list[str], int]:
        asked, answer = [], asyncio.Event()

        async def run(work: Any) -> Any:
            asked.append(work)
            await answer.wait()
            return work()

        now = [0.0]
        readiness = Readiness(services.jobs, services.store, run, seconds=0.01, clock=lambda: now[0])
        first = await readiness.missing()
        now[0] = 10.0
        assert await readiness.missing() == first
        answer.set()
        await asyncio.gather(*readiness._looking.values())
        return first, await readiness.missing(), len(asked)

    assert asyncio.run(look()) == (["job store", "object store"], [], 2)


def test_stores_are_not_asked_for_each_who_asks(services: Services) -> None:
    async def look() -> int:
        asked = []

        async def run(work: Any) -> Any:
            asked.append(work)
            return work()

        readiness = Readiness(services.jobs, services.store, run, clock=lambda: 5.0)
        for _ in range(50):
            assert await readiness.missing() == []
        return len(asked)

    assert asyncio.run(look()) == 2
