"""The Lambda handler as API Gateway calls it: real stores, and a worker that works while the handler waits."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from darkroom.contracts import GeneratedImage, GenerationResult, Job
from darkroom.errors import DarkroomError
from darkroom.inference import QueuedInference
from darkroom.jobs.sql import SqlJobStore
from darkroom.scaling.storage.sql import SqlPolicyStore
from darkroom.settings import Settings
from darkroom.storage.directory import DirectoryStore
from functions import wiring
from functions.api import lambda_handler
from functions.documents import ImageAnswer, JobDocument, ModelList
from functions.manifests import Manifests
from functions.wiring import Wiring, polling
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
        wait = polling(self.jobs, clock=lambda: self.now, sleep=self.sleep)
        self.wiring = Wiring(
            Settings(), self.store, self.jobs, self.policies, QueuedInference(), Manifests(self.store), wait
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        lease = self.jobs.claim("worker", models={"crayon"}) if self.works else None
        if lease:
            self.jobs.succeed(lease, result(lease.job))

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"}
        event = {
            "version": "2.0",
            "routeKey": "ANY /{proxy+}",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
            "body": json.dumps(body),
            "isBase64Encoded": False,
            "requestContext": {"http": http, "requestId": "request-1", "stage": "$default"},
        }
        return lambda_handler(event, SimpleNamespace(), wired=self.wiring)


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
    assert answer["headers"]["X-Request-Id"] == "request-1"


def test_the_handler_gives_up_waiting(call: Lambda) -> None:
    call.works = False
    answer = call("POST", "/v1/models/crayon:predict", {"prompt": "a dog"}, prefer="wait=3")
    assert answer["statusCode"] == 202
    assert call.now == pytest.approx(3.0)
    job = JobDocument.model_validate_json(answer["body"])
    assert answer["headers"]["Location"] == f"/v1/jobs/{job.id}"
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
    assert snapshot["headers"]["Content-Type"] == "text/event-stream"
    assert snapshot["body"].startswith("retry: 1000\n\nevent: progress\n")
    assert call("DELETE", path)["statusCode"] == 202
    assert "event: finished\n" in call("GET", f"{path}/events")["body"]
    assert call("DELETE", path)["statusCode"] == 409


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


def test_a_method_that_an_address_does_not_take(call: Lambda) -> None:
    for method, path, allowed in (
        ("PATCH", "/v1/jobs/x", "GET, HEAD, DELETE"),
        ("GET", "/v1/models/crayon:predict", "POST"),
        ("OPTIONS", "/v1/models", "GET, HEAD"),
    ):
        answer = call(method, path)
        assert (answer["statusCode"], answer["headers"]["Allow"]) == (405, allowed)
        assert json.loads(answer["body"])["code"] == "method_not_allowed"


def test_what_nobody_foresaw_says_nothing_of_itself(call: Lambda, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Manifests):
        def current(self, model: str) -> Any:
            raise RuntimeError("/secret/path")

    call.wiring = replace(call.wiring, manifests=Broken(call.store))
    answer = call("GET", "/v1/models/crayon")
    assert answer["statusCode"] == 500
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert "secret" not in answer["body"]


def test_the_wiring_of_a_lambda_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_STORE_URL", f"file://{tmp_path / 'store'}")
    monkeypatch.setenv("DARKROOM_JOBS_URL", f"sqlite:///{tmp_path / 'jobs.db'}")
    wiring.from_environment.cache_clear()
    try:
        assert wiring.from_environment() is wiring.from_environment()
        assert wiring.from_environment().manifests.names() == []
        wiring.from_environment().jobs.close()  # type: ignore[attr-defined]
        wiring.from_environment().policies.close()
    finally:
        wiring.from_environment.cache_clear()
