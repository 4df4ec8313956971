"""The whole application, as an ASGI server calls it: what holds for every address."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from api.app import ControlPlane
from api.call import Call
from api.callers import Identity
from api.endpoint import HttpEndpoint
from api.manifests import Manifests
from api.services import Services
from api.waiting import News
from darkroom.contracts import Job, JobStatus, Progress
from darkroom.errors import JobStoreUnavailable
from darkroom.settings import Settings
from tests.fakes import api

PREDICT = "/v1/models/crayon:predict"
DOG = {"prompt": "a dog", "seed": 5}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with api.services(tmp_path) as services:
        yield services


def refusal(response: Any) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    return response.status_code, response.json()["code"]


def test_a_job_over_its_life(services: Services) -> None:
    app = ControlPlane(services)
    accepted = api.ask(app, "POST", PREDICT, DOG, headers={"Prefer": "respond-async"})
    assert (accepted.status_code, accepted.headers["preference-applied"]) == (202, "respond-async")
    path = accepted.headers["location"]
    assert api.ask(app, "GET", path).json()["status"] == "queued"
    snapshot = api.ask(app, "GET", f"{path}/events")
    assert (snapshot.headers["content-type"], snapshot.headers["cache-control"]) == ("text/event-stream", "no-store")
    assert snapshot.text.startswith("event: progress\nid: 0\nretry: 1000\ndata: ")
    assert api.ask(app, "DELETE", path).status_code == 202
    assert "event: finished\n" in api.ask(app, "GET", f"{path}/events").text
    assert refusal(api.ask(app, "POST", f"{path}/cancel")) == (409, "job_finished")
    assert api.ask(app, "DELETE", path).status_code == 204
    assert refusal(api.ask(app, "GET", path)) == (404, "job_not_found")


def test_an_address_that_comes_encoded(services: Services) -> None:
    app, now = ControlPlane(services), {"Prefer": "wait=0"}
    assert api.ask(app, "POST", "/v1/models/crayon%3Apredict", DOG, headers=now).status_code == 202
    assert api.ask(app, "POST", "/tione/v1/models/m%3apredict", DOG, headers=now).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nowhere", "not_found"),
        ("GET", "/v1/models/crayon/nothing", "model_not_found"),
        ("POST", "/tione/v1/models/m", "model_not_found"),
    ],
)
def test_an_address_that_there_is_not(services: Services, method: str, path: str, code: str) -> None:
    assert refusal(api.ask(ControlPlane(services), method, path)) == (404, code)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/jobs/x", "GET, HEAD, DELETE"),
        ("GET", PREDICT, "POST"),
        ("OPTIONS", "/v1/models", "GET, HEAD"),
        ("TRACE", "/docs", "GET, HEAD"),
    ],
)
def test_a_method_that_an_address_does_not_take(services: Services, method: str, path: str, allowed: str) -> None:
    response = api.ask(ControlPlane(services), method, path)
    assert refusal(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == allowed


def test_what_nobody_foresaw_says_nothing_of_itself(services: Services) -> None:
    class Broken(Manifests):
        def current(self, model: str) -> Any:
            raise RuntimeError("/secret/path")

    counted: list[str] = []
    broken = replace(services, manifests=Broken(services.store), count=counted.append)
    response = api.ask(ControlPlane(broken), "GET", "/v1/models/crayon")
    assert refusal(response) == (500, "internal")
    assert "secret" not in response.text
    assert counted == ["Problem.internal"]
    ((event, facts),) = services.log.lines  # type: ignore[attr-defined]
    assert (event, facts["request_id"]) == ("unexpected error", response.headers["x-request-id"])
    assert isinstance(facts["exc_info"], RuntimeError)


def test_a_body_that_is_too_large_ends_the_connection(tmp_path: Path) -> None:
    with api.services(tmp_path, Settings(max_body_bytes=1024)) as services:
        app = ControlPlane(services)
        for method, path in (("POST", PREDICT), ("GET", "/ping")):
            response = api.ask(app, method, path, b"x" * 1025)
            assert refusal(response) == (413, "payload_too_large")
            assert response.headers["connection"] == "close"


def test_a_body_that_nobody_asks_for_is_not_read(services: Services) -> None:
    response = api.ask(ControlPlane(services), "POST", "/nowhere", b"x" * 1025)
    assert refusal(response) == (404, "not_found")
    assert response.headers["connection"] == "close"


def test_a_body_of_the_largest_size(tmp_path: Path) -> None:
    with api.services(tmp_path, Settings(max_body_bytes=1024)) as services:
        app = ControlPlane(services)
        assert "connection" not in api.ask(app, "POST", "/v1/models/crayon:predict", b"x" * 1024).headers


def test_two_lengths_are_refused_as_smuggling(services: Services) -> None:
    headers = {"Transfer-Encoding": "chunked", "Content-Length": "2"}
    response = api.ask(ControlPlane(services), "POST", PREDICT, b"{}", headers=headers)
    assert refusal(response) == (400, "malformed_request")
    assert response.headers["connection"] == "close"


def test_a_deployment_that_drains_answers_but_takes_nothing_new(services: Services) -> None:
    app = ControlPlane(replace(services, draining=lambda: True))
    response = api.ask(app, "POST", PREDICT, DOG)
    assert refusal(response) == (503, "draining")
    assert response.headers["retry-after"] == "5"
    assert api.ask(app, "GET", "/v1/models").status_code == 200


def test_every_answer_is_told(services: Services) -> None:
    answers: list[tuple[str, str, int | None]] = []

    def answered(call: Call, seconds: float) -> None:
        assert seconds >= 0
        answers.append((call.method, call.raw_path, call.status))

    app = ControlPlane(services, answered=answered)
    api.ask(app, "GET", "/v1/models/a%1b%5B31m")
    api.ask(app, "GET", "/ping")
    assert answers == [
        ("GET", "/v1/models/a%1b%5B31m", 404),
        ("GET", "/ping", 200),
    ]


def test_routes_of_the_deployment_come_first(services: Services) -> None:
    own = Route("/ping", HttpEndpoint({"GET": lambda call: PlainTextResponse(call.request_id)}, reads=False))
    response = api.ask(ControlPlane(services, [own]), "GET", "/ping")
    assert response.text == response.headers["x-request-id"]


def test_a_server_may_know_the_caller_and_the_requests_id(tmp_path: Path) -> None:
    with api.services(tmp_path, Settings(access="jwt")) as services:
        app = ControlPlane(services)

        async def known(scope: Any, receive: Any, send: Any) -> None:
            state = {"request_id": "request-1", "identity": Identity("jwt", "alice")}
            await app({**scope, "state": state}, receive, send)

        assert refusal(api.ask(app, "GET", "/v1/models", headers={"x-api-key": "1"})) == (401, "unauthorized")
        response = api.ask(known, "GET", "/v1/models")
        assert (response.status_code, response.headers["x-request-id"]) == (200, "request-1")


# ---- waiting ------------------------------------------------------------------------------------------------------


class Caller:
    """An ASGI connection whose client sends one request and, once `leaves` is set, goes away."""

    def __init__(self, path: str, body: bytes, **headers: str) -> None:
        sent = {"content-type": "application/json", **headers}
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
        }
        self.leaves = asyncio.Event()
        self.sent: list[Any] = []
        self._body: bytes | None = body

    async def receive(self) -> Any:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, JobStatus.CANCELLED),
        ({"prefer": "wait=9"}, JobStatus.CANCELLED),
        ({"prefer": "respond-async, wait=9"}, JobStatus.QUEUED),
        ({"idempotency-key": "back-later"}, JobStatus.QUEUED),
    ],
)
def test_a_caller_who_goes_away_takes_the_job_along_or_means_to_come_back(
    services: Services, headers: dict[str, str], status: JobStatus
) -> None:
    waited: list[Job] = []
    withdrawn: list[str] = []

    class Inference:
        def submit(self, job: Job) -> Job:
            return job

        def withdraw(self, job: Job) -> None:
            withdrawn.append(job.id)

    async def leave() -> Caller:
        caller = Caller(PREDICT, b'{"prompt": "a dog"}', **headers)

        async def wait(job: Job, _seconds: float) -> Job:
            waited.append(job)
            caller.leaves.set()
            await asyncio.Event().wait()
            raise AssertionError

        app = ControlPlane(replace(services, wait=wait, inference=Inference()))
        await app(caller.scope, caller.receive, caller.send)
        return caller

    assert asyncio.run(leave()).sent == []
    (job,) = waited
    assert services.jobs.get(job.id, tenant=job.tenant).status is status
    assert withdrawn == ([job.id] if status is JobStatus.CANCELLED else [])


def test_callers_who_wait_keep_nobody_from_being_answered(services: Services) -> None:
    """As many as there are, on one loop: nothing is global, and nothing locks."""

    async def crowd() -> list[int]:
        started, go = 0, asyncio.Event()

        async def wait(job: Job, _seconds: float) -> Job:
            nonlocal started
            started += 1
            if started == 100:
                go.set()
            await go.wait()
            return job

        app = ControlPlane(replace(services, wait=wait))
        callers = [Caller(PREDICT, b'{"prompt": "a dog", "seed": %d}' % seed) for seed in range(100)]
        await asyncio.gather(*(app(caller.scope, caller.receive, caller.send) for caller in callers))
        bodies = [b"".join(message.get("body", b"") for message in caller.sent) for caller in callers]
        return [seed for seed, body in enumerate(bodies) if b'"seed":%d,' % seed in body]

    assert asyncio.run(crowd()) == list(range(100))


def test_a_stream_tells_steps_and_ends_with_the_job(services: Services) -> None:
    async def follow(job: Job) -> Any:
        yield News(Progress(step=1, steps=4), "data:image/png;base64,AA")
        yield None
        yield services.jobs.cancel(job.id, tenant=job.tenant)

    app = ControlPlane(replace(services, follow=follow))
    path = api.ask(app, "POST", PREDICT, DOG, headers={"Prefer": "respond-async"}).headers["location"]
    stream = api.ask(app, "GET", f"{path}/events")
    assert stream.headers["x-accel-buffering"] == "no"
    first, preview, quiet, last, rest = stream.text.split("\n\n")
    assert (quiet, rest) == (": keep-alive", "")
    assert first.startswith("event: progress\nid: 0\nretry: 1000\ndata: ")
    assert preview == 'event: progress\nid: 1\ndata: {"step":1,"steps":4,"preview":"data:image/png;base64,AA"}'
    assert last.startswith("event: finished\nid: 0\nretry: 1000\ndata: ")
    assert '"status":"cancelled"' in last
    assert api.ask(app, "GET", f"{path}/events").text.count("event:") == 1


@pytest.mark.parametrize("error", [RuntimeError("half an answer"), JobStoreUnavailable("half an answer")])
def test_an_error_within_an_answer_breaks_the_connection(services: Services, error: Exception) -> None:
    async def broken() -> Any:
        caller = Caller("/ping", b"")
        caller.scope["method"] = "GET"

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise error
            await caller.send(message)

        with pytest.raises(type(error), match="half an answer"):
            await ControlPlane(services)(caller.scope, caller.receive, send)
        return caller.sent

    (start,) = asyncio.run(broken())
    assert start["status"] == 200


def test_keys_before_bodies(tmp_path: Path) -> None:
    """Who has no key may not make us read 2 MB."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("its body was read")

    headers = [(b"content-length", b"2000000"), (b"expect", b"100-continue")]
    scope = {"type": "http", "method": "POST", "path": PREDICT, "query_string": b"", "headers": headers}
    with api.services(tmp_path, Settings(api_keys="ann=1")) as services:
        asyncio.run(ControlPlane(services)(scope, receive, send))
    assert sent[0]["status"] == 401
