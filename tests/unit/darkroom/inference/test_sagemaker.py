"""SageMaker through its own protocol, on a loopback port, in front of a container that answers as it is told."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ConnectionClosedError, NoCredentialsError, ReadTimeoutError
from botocore.response import StreamingBody

from darkroom.contracts import GenerationRequest, GenerationResult, Invocation, Job, JobStatus
from darkroom.endpoints import Endpoints
from darkroom.errors import (
    DarkroomError,
    DeadlineExceeded,
    GenerationFailed,
    InvalidParameter,
    ModelNotFound,
    ObjectNotFound,
    OutOfMemory,
    Overloaded,
    RuntimeUnavailable,
    StorageFull,
)
from darkroom.inference import Unreached
from darkroom.inference.sagemaker import INLINE_BYTES, SageMakerAsync, SageMakerRealTime
from darkroom.inference.spool import Spool, attempt_of, read_problem
from darkroom.jobs.sql import SqlJobStore
from darkroom.storage.directory import DirectoryStore
from tests.fakes import aws
from tests.fakes.container import Container
from tests.fakes.sagemaker import Front

ENDPOINTS = Endpoints({"crayon": "darkroom-crayon"})
RESULT = GenerationResult(images=[], seed=7, model="crayon", version="0" * 16, target="onnx-cpu")
OVERLOADED = (503, Overloaded().problem().model_dump_json())
NOW = 1_800_000_000.0


@pytest.fixture
def container() -> Iterator[Container]:
    with Container() as started:
        started.then(200, RESULT.model_dump_json())
        yield started


@pytest.fixture
def front(container: Container, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    with Front("darkroom-crayon", container.url) as started:
        for name, value in aws.environment(started.url).items():
            monkeypatch.setenv(name, value)
        yield started


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[SqlJobStore]:
    store = SqlJobStore(f"sqlite:///{tmp_path}/jobs.db", wall=lambda: NOW)
    yield store
    store.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool("s3://images/async", DirectoryStore(tmp_path / "spool"))


def accepted(jobs: SqlJobStore, **asked: Any) -> Job:
    request = GenerationRequest(**{"prompt": "a cat", "seed": 7, **asked})
    return jobs.create("crayon", request, tenant="one", idempotency=None).job


def asynchronous(spool: Spool, *, now: float = NOW) -> SageMakerAsync:
    return SageMakerAsync(ENDPOINTS, spool, job_seconds=900.0, wall=lambda: now)


def real_time(jobs: SqlJobStore, **given: Any) -> SageMakerRealTime:
    return SageMakerRealTime(ENDPOINTS, jobs, **{"seconds": 25.0, "attempts": 3, "sleep": lambda _: None, **given})


# ---- asynchronous -------------------------------------------------------------------------------------------------


def test_a_job_is_queued_under_its_own_name(front: Front, jobs: SqlJobStore, spool: Spool) -> None:
    job = accepted(jobs)
    assert asynchronous(spool, now=NOW + 100).submit(job) == job
    (queued,) = front.received
    assert (queued.inference_id, queued.filename) == (f"{job.id}.1", job.id)
    assert (queued.content_type, queued.accept) == ("application/json", "application/json")
    assert (queued.ttl, queued.timeout) == ("800", "800")  # what is left of the job's time
    assert queued.body
    sent = Invocation.model_validate_json(queued.body)
    assert (sent.id, sent.tenant, sent.request, sent.deadline_seconds) == (job.id, "one", job.request, 800.0)


def test_a_large_request_goes_through_s3(front: Front, jobs: SqlJobStore, spool: Spool, tmp_path: Path) -> None:
    job = accepted(jobs, prompt="é" * 10_000, negative_prompt="\U0001f431" * 10_000)
    job = job.model_copy(update={"request": job.request.model_copy(update={"prompt": "x" * INLINE_BYTES})})
    asynchronous(spool).send(job, attempt=2)
    (queued,) = front.received
    assert (queued.inference_id, queued.body) == (f"{job.id}.2", None)
    assert queued.location == f"s3://images/async/in/{job.id}"
    assert json.loads(DirectoryStore(tmp_path / "spool").get(f"in/{job.id}"))["id"] == job.id


def test_what_cannot_be_queued_says_so(front: Front, jobs: SqlJobStore, spool: Spool) -> None:
    job = accepted(jobs)
    with pytest.raises(DeadlineExceeded):
        asynchronous(spool, now=NOW + 901).submit(job)
    with pytest.raises(ModelNotFound):
        asynchronous(spool).submit(job.model_copy(update={"model": "other"}))
    front.name = "gone"
    with pytest.raises(Unreached):
        asynchronous(spool).submit(job)
    assert not front.received


SECRET = "a secret cat"


def test_what_the_service_said_is_in_the_log_and_no_prompt(
    front: Front, container: Container, jobs: SqlJobStore, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    job = accepted(jobs, prompt=SECRET)
    container.then(422, InvalidParameter(f"{SECRET} cannot be drawn.").problem().model_dump_json())
    real_time(jobs).submit(job)
    assert "invoke_endpoint: the container answered 422" in caplog.text
    front.name = "gone"
    with pytest.raises(Unreached):
        asynchronous(spool).submit(job)
    assert "invoke_endpoint_async was refused: ValidationError: Endpoint darkroom-crayon of account 1" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ReadTimeoutError(endpoint_url="https://x"), "no answer within 5 s"),
        (ConnectionClosedError(endpoint_url="https://x"), "the connection broke"),
        (NoCredentialsError(), "invoke_endpoint_async failed: Unable to locate credentials"),
    ],
)
def test_what_went_wrong_on_the_way_is_in_the_log(
    jobs: SqlJobStore, spool: Spool, error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    sender = SageMakerAsync(ENDPOINTS, spool, job_seconds=900.0, client=Broken(error), wall=lambda: NOW)
    with contextlib.suppress(Unreached):
        sender.submit(accepted(jobs))
    assert said in caplog.text


def test_a_service_that_does_not_answer_is_unreached(
    front: Front, jobs: SqlJobStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unreached):
        real_time(jobs)._invoke(accepted(jobs), 1.0)


class Broken:
    """A client whose answers are lost after the request was sent."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.sent: list[str] = []

    def invoke_endpoint_async(self, *, InferenceId: str, **_: Any) -> None:  # noqa: N803
        self.sent.append(InferenceId)
        raise self.error

    def invoke_endpoint(self, **_: Any) -> dict[str, Any]:
        raw = SimpleNamespace(read=self._break, close=lambda: None)
        return {"Body": StreamingBody(raw, 100)}

    def _break(self, _amount: int | None = None) -> bytes:
        raise urllib3.exceptions.ProtocolError


@pytest.mark.parametrize(
    "error", [ReadTimeoutError(endpoint_url="x"), ConnectionClosedError(endpoint_url="x")], ids=["silent", "closed"]
)
def test_a_submission_whose_answer_is_lost_is_no_failure(jobs: SqlJobStore, spool: Spool, error: Exception) -> None:
    job, client = accepted(jobs), Broken(error)
    sender = SageMakerAsync(ENDPOINTS, spool, job_seconds=900.0, client=client, wall=lambda: NOW)
    assert sender.submit(job) == job  # it may be worked on: the notification ends it, or the sweep
    assert client.sent == [f"{job.id}.1"]


def test_an_answer_that_breaks_off_costs_an_attempt(jobs: SqlJobStore) -> None:
    job = real_time(jobs, client=Broken(RuntimeError())).submit(accepted(jobs))
    assert (job.error and job.error.code) == "poisoned"


# ---- real-time ----------------------------------------------------------------------------------------------------


def test_a_real_time_job_comes_back_ended(front: Front, container: Container, jobs: SqlJobStore, spool: Spool) -> None:
    job = real_time(jobs).submit(accepted(jobs))
    assert (job.status, job.result) == (JobStatus.SUCCEEDED, RESULT)
    sent = Invocation.model_validate_json(container.received[0])
    assert sent.id == job.id
    assert sent.deadline_seconds
    assert sent.deadline_seconds <= 24.0  # a second is left for telling


def test_a_containers_refusal_is_the_jobs(front: Front, container: Container, jobs: SqlJobStore) -> None:
    refused = InvalidParameter("This cannot be drawn.", field="/prompt").problem("r")
    container.then(422, refused.model_dump_json())
    job = real_time(jobs).submit(accepted(jobs))
    assert job.status is JobStatus.FAILED
    assert job.error == refused.model_copy(update={"request_id": None})
    assert len(container.received) == 1


def test_what_was_bad_luck_is_tried_again(front: Front, container: Container, jobs: SqlJobStore) -> None:
    pauses: list[float] = []
    failed = (503, GenerationFailed().problem().model_dump_json())
    container.then(*OVERLOADED, *failed, 200, RESULT.model_dump_json())
    job = real_time(jobs, sleep=pauses.append).submit(accepted(jobs))
    assert job.status is JobStatus.SUCCEEDED
    assert pauses == [0.5]  # a full endpoint is given a moment, a broken attempt is not


@pytest.mark.parametrize(
    ("error", "code"),
    [(Overloaded(), "overloaded"), (GenerationFailed(), "poisoned"), (OutOfMemory(), "out_of_memory")],
)
def test_attempts_are_limited(
    front: Front, container: Container, jobs: SqlJobStore, error: DarkroomError, code: str
) -> None:
    container.then(*(error.status, error.problem().model_dump_json()) * 3)
    job = real_time(jobs).submit(accepted(jobs))
    assert job.error
    assert job.error.code == code
    assert len(container.received) == (1 if code == "out_of_memory" else 3)


def test_time_limits_attempts_too(front: Front, container: Container, jobs: SqlJobStore) -> None:
    clock = iter([0.0, 0.0, 24.0, 30.0])
    container.then(*OVERLOADED)
    job = real_time(jobs, clock=lambda: next(clock)).submit(accepted(jobs))
    assert job.error
    assert (job.error.code, len(container.received)) == ("overloaded", 1)


def test_an_answer_that_does_not_come_is_a_deadline(front: Front, container: Container, jobs: SqlJobStore) -> None:
    container.hang.set()
    job = real_time(jobs, seconds=1.2).submit(accepted(jobs))
    assert job.error
    assert job.error.code == "deadline_exceeded"


def test_an_answer_that_is_no_result_is_not_believed(front: Front, container: Container, jobs: SqlJobStore) -> None:
    container.then(200, "{}", 200, "[", 200, '{"images": 1}')
    job = real_time(jobs).submit(accepted(jobs))
    assert job.error
    assert job.error.code == "poisoned"


def test_withdrawing_changes_nothing(front: Front, jobs: SqlJobStore, spool: Spool) -> None:
    job = accepted(jobs)
    asynchronous(spool).withdraw(job)
    real_time(jobs).withdraw(job)
    assert jobs.find(job.id) == job


# ---- what is read -------------------------------------------------------------------------------------------------


def test_what_the_endpoint_writes_is_found_wherever_it_says(
    front: Front, jobs: SqlJobStore, spool: Spool, tmp_path: Path
) -> None:
    """By whoever has nothing but the job: the sweep, and a release that looks for its proof."""
    job, store = accepted(jobs), DirectoryStore(tmp_path / "spool")
    for attempt in (1, 2):
        asynchronous(spool).send(job, attempt=attempt)
    first, second = front.received
    with pytest.raises(ObjectNotFound):
        spool.result(job.id, attempt=1)
    store.put(front.output(first).removeprefix("s3://images/async/"), RESULT.model_dump_json().encode())
    store.put(
        front.failure(second).removeprefix("s3://images/async/"), OutOfMemory().problem().model_dump_json().encode()
    )
    assert spool.result(job.id, attempt=1) == RESULT
    assert spool.failed(job.id, attempt=1) is None
    assert isinstance(spool.failed(job.id, attempt=2), OutOfMemory)
    assert isinstance(spool.failure(job.id, "Received server error (500)", attempt=2), OutOfMemory)
    assert isinstance(spool.failure(job.id, "Received server error (504)", attempt=1), Unreached)


def test_a_notification_says_where_a_result_is(spool: Spool, tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "spool").put("out/any-name.out", RESULT.model_dump_json().encode())
    assert spool.result("a", attempt=1, address="s3://images/async/out/any-name.out") == RESULT
    for elsewhere in ("s3://other/async/out/any-name.out", "s3://images/async-2/out/any-name.out", "out/any-name.out"):
        with pytest.raises(ObjectNotFound):
            spool.result("a", attempt=1, address=elsewhere)


def test_where_things_lie_is_not_worth_a_request(
    front: Front, jobs: SqlJobStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was taken: its notification will tell, and without it the sweep knows the name it asked for."""
    monkeypatch.setattr(DirectoryStore, "put", lambda *_, **__: _full())
    job = accepted(jobs)
    assert asynchronous(spool).submit(job) == job


def _full() -> None:
    raise StorageFull


def test_results_and_failures_are_found_by_job(spool: Spool, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "spool")
    with pytest.raises(ObjectNotFound):
        spool.result("a", attempt=1)
    store.put("out/a", RESULT.model_dump_json().encode())
    assert spool.result("a", attempt=1) == RESULT
    store.put("out/a", b"half a res")
    with pytest.raises(RuntimeUnavailable):
        spool.result("a", attempt=1)
    store.put("failed/a", OutOfMemory().problem().model_dump_json().encode())
    assert isinstance(spool.failure("a", "whatever", attempt=1), OutOfMemory)
    assert isinstance(spool.failure("b", "Received server error (504) from model", attempt=1), Unreached)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("ClientError: Received server error (503) from model.", Overloaded),
        ("Received server error (502)", Unreached),
        ("Received client error (429)", Unreached),
        ("Received client error (413) from primary", InvalidParameter),
        ("Received server error (500) from model", GenerationFailed),
        ("The container died", GenerationFailed),
        ("", GenerationFailed),
    ],
)
def test_what_sagemaker_says_when_the_container_said_nothing(reason: str, kind: type[DarkroomError]) -> None:
    error = read_problem(b"<html>", reason)
    assert type(error) is kind
    assert "ClientError" not in error.detail  # its sentence is not for strangers


def test_inference_ids() -> None:
    assert attempt_of(f"{'a' * 32}.2") == ("a" * 32, 2)
    for other in ("", "a" * 32, f"{'a' * 32}.", f"{'g' * 32}.1", f"x{'a' * 32}.1", f"{'a' * 32}.1\n"):
        assert attempt_of(other) is None


def test_building_one_loads_no_boto3() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from darkroom.settings import Settings; from api import services;"
        "s = Settings(endpoints='crayon=e', async_url='s3://b/async', jobs_url='dynamodb://jobs');"
        "services.inference(s, services.open_job_store(s)); services.inference(s.model_copy(update={'endpoint_type': "
        "'real-time'}), services.open_job_store(s)); print(sorted({'boto3', 'botocore', 'sqlalchemy', 'httpx'} & "
        "set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == "[]", found.stderr
