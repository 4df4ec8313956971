"""The Lambda handler as API Gateway calls it: real stores, and a worker that works while the handler waits."""

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api.blocking import at_once
from api.callers import Identity
from api.manifests import Manifests
from api.schemas.jobs import ImageAnswer, JobDocument
from api.schemas.models import ModelList
from api.services import Services
from api.waiting import polling
from darkroom.contracts import GeneratedImage, GenerationResult, Job
from darkroom.errors import DarkroomError
from darkroom.inference import QueuedInference
from darkroom.jobs.sql import SqlJobStore
from darkroom.scaling.storage.sql import SqlPolicyStore
from darkroom.settings import Settings
from darkroom.storage.directory import DirectoryStore
from functions import observability
from functions.api import from_environment, identity_of, lambda_handler
from functions.observability import logger
from tests.fakes import bundle


class Lambda:
    """One function with its stores. `works`: whether a worker runs the oldest job each time the handler sleeps."""

    def __init__(self, directory: Path) -> None:
        self.store = DirectoryStore(directory / "store", public_url="https://images.example", signing_key=b"k")
        self.jobs = SqlJobStore(f"sqlite:///{directory / 'jobs.db'}")
        self.policies = SqlPolicyStore(f"sqlite:///{directory / 'jobs.db'}")
        self.works = True
        self.now = 0.0
        bundle.publish(self.store, directory)
        wait = polling(self.jobs, at_once, clock=lambda: self.now, sleep=self.sleep)
        inference, manifests = QueuedInference(), Manifests(self.store)
        self.services = Services(
            *(Settings(), self.store, self.jobs, self.policies, inference, manifests, wait, logger), run=at_once
        )

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        lease = self.jobs.claim("worker", models={"crayon"}) if self.works else None
        if lease:
            self.jobs.succeed(lease, result(lease.job))

    def __call__(
        self, method: str, path: str, body: Any = None, context: dict[str, Any] | None = None, **headers: str
    ) -> dict[str, Any]:
        http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"}
        event = {
            "version": "2.0",
            "routeKey": "ANY /{proxy+}",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
            "body": body if isinstance(body, str) else json.dumps(body),
            "isBase64Encoded": "x_encoded" in headers,
            "requestContext": {"http": http, "requestId": "request-1", "stage": "$default"},
        }
        event["requestContext"] |= context or {}
        answer = lambda_handler(event, SimpleNamespace(), services=self.services)
        assert all(name == name.lower() for name in answer["headers"])
        return answer


def result(job: Job) -> GenerationResult:
    image = GeneratedImage(
        key=f"images/{job.id}/0.png", seed=1, width=64, height=64, content_type="image/png", size=3, sha256="0" * 64
    )
    return GenerationResult(
        images=[image], seed=job.request.seed or 0, model=job.model, version="1" * 16, target="fake"
    )


@pytest.fixture
def call(tmp_path: Path) -> Any:
    function = Lambda(tmp_path)
    yield function
    function.jobs.close()
    function.policies.close()


def test_the_handler_waits_for_the_image(call: Lambda) -> None:
    answer = call("POST", "/v1/models/crayon:predict", {"prompt": "a dog", "seed": 5})
    assert answer["statusCode"] == 200
    told = ImageAnswer.model_validate_json(answer["body"])
    assert (told.seed, told.request_id) == (5, "request-1")
    assert told.image.startswith("https://images.example/objects/images/")
    assert answer["headers"]["x-request-id"] == "request-1"


def test_the_handler_gives_up_waiting(call: Lambda) -> None:
    call.works = False
    answer = call("POST", "/v1/models/crayon:predict", {"prompt": "a dog"}, prefer="wait=3")
    assert answer["statusCode"] == 202
    assert call.now == pytest.approx(3.0)
    job = JobDocument.model_validate_json(answer["body"])
    assert answer["headers"]["location"] == f"/v1/jobs/{job.id}"
    assert job.request.width == 64
    assert job.request.seed is not None


def test_a_path_that_comes_encoded(call: Lambda) -> None:
    assert call("POST", "/v1/models/crayon%3Apredict", {"prompt": "a dog"})["statusCode"] == 200
    assert call("POST", "/tione/v1/models/m%3apredict", {"prompt": "a dog"})["statusCode"] == 200


def test_jobs_over_their_life(call: Lambda) -> None:
    call.works = False
    told = json.loads(call("POST", "/v1/models/m:predict", {"prompt": "a dog"}, prefer="respond-async")["body"])
    path = f"/v1/jobs/{told['id']}"
    assert json.loads(call("GET", path)["body"])["status"] == "queued"
    snapshot = call("GET", f"{path}/events")
    assert snapshot["headers"]["content-type"] == "text/event-stream"
    assert snapshot["body"].startswith("event: progress\nid: 0\nretry: 1000\ndata: ")
    assert call("DELETE", path)["statusCode"] == 202
    assert "event: finished\n" in call("GET", f"{path}/events")["body"]
    assert call("POST", f"{path}/cancel")["statusCode"] == 409
    assert call("DELETE", path)["statusCode"] == 204


def test_a_stored_problem_carries_this_requests_id(call: Lambda) -> None:
    call.works = False
    answer = call("POST", "/v1/models/m:predict", {"prompt": "a"}, idempotency_key="k", prefer="wait=0")
    lease = call.jobs.claim("worker", models={"crayon"})
    assert lease
    assert lease.job.id == json.loads(answer["body"])["id"]
    call.jobs.fail(lease, DarkroomError().problem("another request"))
    answer = call("POST", "/v1/models/m:predict", {"prompt": "a"}, idempotency_key="k")
    assert answer["statusCode"] == 500
    assert json.loads(answer["body"])["request_id"] == "request-1"


def test_models(call: Lambda) -> None:
    listed = ModelList.model_validate_json(call("GET", "/v1/models")["body"])
    assert [model.name for model in listed.models] == ["crayon"]
    assert json.loads(call("GET", "/v1/models/m")["body"])["name"] == "crayon"


def test_the_body_as_api_gateway_sends_it(call: Lambda) -> None:
    call.works = False
    encoded = base64.b64encode(b'{"prompt": "a dog"}').decode()
    path, sent = "/v1/models/m:predict", {"prefer": "wait=0", "x_encoded": "1"}
    assert call("POST", path, encoded, **sent)["statusCode"] == 202
    for damaged, headers in (("?", sent), (base64.b64encode(b"\xff").decode(), sent), ("\ud800", {})):
        answer = call("POST", path, damaged, **headers)
        assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (400, "malformed_json")


def test_callers_whom_api_gateway_has_checked(call: Lambda) -> None:
    def status(access: Any, **authorizer: Any) -> int:
        call.services = replace(call.services, settings=Settings(access=access))
        return int(call("GET", "/v1/models", context={"authorizer": authorizer or None})["statusCode"])

    alice, role = {"claims": {"sub": "alice"}}, {"userId": "AROAEXAMPLE:yesterday"}
    assert status("jwt", jwt=alice) == status("jwt", jwt={"claims": {"client_id": "machine"}}) == 200
    assert status("iam", iam=role) == 200
    for access, authorizer in (("jwt", {"iam": role}), ("iam", {"jwt": alice}), ("jwt", {"jwt": {"claims": {}}})):
        assert status(access, **authorizer) == 401
    assert status("iam", iam={"userId": None}) == status("jwt") == status("iam") == 401


def test_a_signature_names_the_role_and_not_its_session() -> None:
    for session in ("yesterday", "today"):
        identity = identity_of({"authorizer": {"iam": {"userId": f"AROAEXAMPLE:{session}"}}})
        assert identity == Identity("iam", "AROAEXAMPLE")


def test_answers_are_text_and_the_connection_is_the_gateways(call: Lambda) -> None:
    for length in ({}, {"content_length": "3000000"}):
        refused = call("POST", "/v1/models/m:predict", "x" * 3_000_000, **length)
        assert (refused["statusCode"], json.loads(refused["body"])["code"]) == (413, "payload_too_large")
        assert refused["headers"]["content-type"] == "application/problem+json"
        assert "connection" not in refused["headers"]
    page = call("GET", "/docs", accept_encoding="gzip")
    assert page["isBase64Encoded"]
    assert b"Darkroom" in gzip.decompress(base64.b64decode(page["body"]))


def test_what_is_counted_is_written_with_the_event(call: Lambda, capsys: pytest.CaptureFixture[str]) -> None:
    call.services = replace(call.services, count=observability.count)
    call("POST", "/v1/models/crayon:predict", {"prompt": 1})
    assert '"Problem.invalid_type":[1.0]' in capsys.readouterr().out


def test_a_deleted_policy_is_answered_with_nothing(call: Lambda) -> None:
    path = "/v1/models/crayon/scaling-policy"
    assert call("PUT", path, {"min": 0, "max": 1})["statusCode"] == 201
    answer = call("DELETE", path)
    assert (answer["statusCode"], answer["body"]) == (204, "")
    assert "content-type" not in answer["headers"]


def test_the_services_of_a_lambda_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_STORE_URL", f"file://{tmp_path / 'store'}")
    monkeypatch.setenv("DARKROOM_JOBS_URL", f"sqlite:///{tmp_path / 'jobs.db'}")
    from_environment.cache_clear()
    try:
        assert from_environment() is from_environment()
        assert from_environment().manifests.names() == []
        from_environment().jobs.close()  # type: ignore[attr-defined]
        from_environment().policies.close()
    finally:
        from_environment.cache_clear()
