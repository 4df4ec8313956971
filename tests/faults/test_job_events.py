"""Notifications of finished jobs that come twice, late, out of order, damaged or never; rows of the table of faults."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from darkroom.contracts import GenerationRequest, GenerationResult, Job, JobStatus
from darkroom.endpoints import Endpoints
from darkroom.errors import (
    DarkroomError,
    GenerationFailed,
    InvalidDimensions,
    JobStoreUnavailable,
    ObjectNotFound,
    OutOfMemory,
    Overloaded,
    StorageUnavailable,
)
from darkroom.inference import Unreached
from darkroom.inference.sagemaker import SageMakerAsync
from darkroom.inference.spool import Spool
from darkroom.jobs.sql import SqlJobStore
from darkroom.storage.directory import DirectoryStore
from functions import job_events

RESULT = GenerationResult(images=[], seed=7, model="crayon", version="0" * 16, target="onnx-cpu")
NOW = 1_800_000_000.0


@dataclass
class Sent:
    """Stands for boto3's client: what was sent to the endpoint."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    down: bool = False
    silent: bool = False

    def invoke_endpoint_async(self, **arguments: Any) -> dict[str, str]:
        from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

        if self.down:
            raise EndpointConnectionError(endpoint_url="https://runtime.sagemaker")
        self.calls.append(arguments)
        if self.silent:
            raise ReadTimeoutError(endpoint_url="https://runtime.sagemaker")
        places = {"OutputLocation": "out", "FailureLocation": "failed"}
        name = f"any-{arguments['InferenceId']}.out"
        return {key: f"s3://images/async/{folder}/{name}" for key, folder in places.items()}

    @property
    def ids(self) -> list[str]:
        return [call["InferenceId"] for call in self.calls]


class Function:
    """The function with its stores; `now` is the wall clock."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.jobs = SqlJobStore(f"sqlite:///{directory}/jobs.db", wall=lambda: self.now)
        self.store = DirectoryStore(directory / "spool")
        self.sent = Sent()
        spool = Spool("s3://images/async", self.store)
        endpoints = Endpoints({"crayon": "darkroom-crayon"})
        inference = SageMakerAsync(endpoints, spool, job_seconds=900.0, client=self.sent, wall=lambda: self.now)
        self.wiring = job_events.Closing(self.jobs, spool, inference, 900.0, 3, wall=lambda: self.now)

    def accept(self) -> Job:
        request = GenerationRequest(prompt="a secret cat", seed=7)
        return self.jobs.create("crayon", request, tenant="one", idempotency=None).job

    def job(self, job: Job) -> Job:
        return self.jobs.find(job.id)

    def made(self, job: Job, body: bytes = RESULT.model_dump_json().encode()) -> None:
        for name in self.names("out", job):
            self.store.put(name, body)

    def broke(self, job: Job, error: DarkroomError) -> None:
        for name in self.names("failed", job):
            self.store.put(name, error.problem().model_dump_json().encode())

    def names(self, folder: str, job: Job) -> list[str]:
        """What an attempt writes to: the name that was asked for, or the one that the endpoint gave it."""
        return [f"{folder}/{job.id}", *(f"{folder}/any-{job.id}.{attempt}.out" for attempt in (1, 2, 3))]

    def __call__(self, *records: dict[str, Any]) -> dict[str, int]:
        return job_events.lambda_handler({"Records": list(records)}, None, wired=self.wiring)

    def sweep(self) -> dict[str, int]:
        return job_events.lambda_handler({"source": "aws.events"}, None, wired=self.wiring)


@pytest.fixture
def function(tmp_path: Path) -> Iterator[Function]:
    made = Function(tmp_path)
    yield made
    made.jobs.close()


def told(job: Job | str, *, attempt: int = 1, reason: str | None = None) -> dict[str, Any]:
    """An SNS record; a `reason` makes it one of the error topic."""
    message = {
        "invocationStatus": "Completed" if reason is None else "Failed",
        "inferenceId": f"{job if isinstance(job, str) else job.id}.{attempt}",
        "eventName": "InferenceResult",
    } | ({} if reason is None else {"failureReason": reason})
    return {"EventSource": "aws:sns", "Sns": {"MessageId": "m", "Message": json.dumps(message)}}


# ---- each end of a job --------------------------------------------------------------------------------------------


def test_row_86_a_notification_that_comes_twice_makes_one_visible_result(function: Function) -> None:
    job = function.accept()
    function.made(job)
    assert function(told(job), told(job)) == {"succeeded": 1, "late": 1}
    ended = function.job(job)
    assert (ended.status, ended.result) == (JobStatus.SUCCEEDED, RESULT)
    function.now += 100
    assert function(told(job)) == {"late": 1}
    assert function.job(job) == ended


def test_a_result_lies_where_the_notification_says(function: Function) -> None:
    job = function.accept()
    function.store.put("out/0123-4567.out", RESULT.model_dump_json().encode())
    record = told(job)
    message = json.loads(record["Sns"]["Message"])
    for damaged in (7, {"outputLocation": 7}, []):
        record["Sns"]["Message"] = json.dumps(message | {"responseParameters": damaged})
        with pytest.raises(ObjectNotFound):
            function(record)
    message["responseParameters"] = {"outputLocation": "s3://images/async/out/0123-4567.out"}
    record["Sns"]["Message"] = json.dumps(message)
    assert function(record) == {"succeeded": 1}


def test_the_sweep_and_a_failure_find_what_the_endpoint_said_it_would_write(function: Function) -> None:
    """Whatever the names are: the answer of each attempt told them."""
    lost, broken = function.accept(), function.accept()
    for job in (lost, broken):
        function.wiring.inference.send(job, attempt=1)
    function.store.put(f"out/any-{lost.id}.1.out", RESULT.model_dump_json().encode())
    function.store.put(f"failed/any-{broken.id}.1.out", InvalidDimensions().problem().model_dump_json().encode())
    assert function(told(broken, reason="")) == {"failed": 1}
    failed = function.job(broken).error
    assert failed
    assert failed.code == "invalid_dimensions"
    function.jobs.record_attempts(lost.id, 2, was=0)
    function.now += 900 + job_events.GRACE_SECONDS + 1
    assert function.sweep() == {"succeeded": 1}  # the first attempt's, though a second was begun
    assert function.job(lost).result == RESULT


def test_an_error_after_the_success_changes_nothing(function: Function) -> None:
    job = function.accept()
    function.made(job)
    function.broke(job, InvalidDimensions())
    assert function(told(job), told(job, reason="")) == {"succeeded": 1, "late": 1}
    assert function.job(job).status is JobStatus.SUCCEEDED
    assert not function.sent.calls


def test_a_success_after_the_error_changes_nothing(function: Function) -> None:
    job = function.accept()
    function.broke(job, InvalidDimensions("Too wide."))
    assert function(told(job, reason="")) == {"failed": 1}
    function.made(job)
    assert function(told(job)) == {"late": 1}
    failed = function.job(job)
    assert failed.error
    assert (failed.error.code, failed.error.detail) == ("invalid_dimensions", "Too wide.")


def test_row_54_a_cancelled_jobs_result_is_refused(function: Function) -> None:
    job = function.accept()
    cancelled = function.jobs.cancel(job.id, tenant="one")
    function.made(job)
    assert function(told(job)) == {"late": 1}
    assert function.job(job) == cancelled


# ---- attempts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [GenerationFailed(), Overloaded(), Unreached()])
def test_what_was_bad_luck_is_sent_again(function: Function, error: DarkroomError) -> None:
    job = function.accept()
    function.broke(job, error)
    assert function(told(job, reason="")) == {"again": 1}
    assert function.sent.ids == [f"{job.id}.2"]
    assert function.job(job).status is JobStatus.QUEUED
    function.made(job)
    assert function(told(job, attempt=2)) == {"succeeded": 1}


def test_row_60_a_poison_request_is_given_up_and_its_neighbour_is_not(function: Function) -> None:
    poison, neighbour = function.accept(), function.accept()
    for attempt in (1, 2, 3):
        function.broke(poison, GenerationFailed())
        function(told(poison, attempt=attempt, reason=""))
    function.made(neighbour)
    assert function(told(neighbour)) == {"succeeded": 1}
    given_up = function.job(poison)
    assert given_up.error
    assert given_up.error.code == "poisoned"
    assert function.sent.ids == [f"{poison.id}.2", f"{poison.id}.3"]


@pytest.mark.parametrize("error", [OutOfMemory(), StorageUnavailable(), InvalidDimensions()])
def test_what_would_fail_again_is_the_answer(function: Function, error: DarkroomError) -> None:
    job = function.accept()
    function.broke(job, error)
    assert function(told(job, reason="Received server error (500) from model")) == {"failed": 1}
    assert function.job(job).error == error.problem()
    assert not function.sent.calls


def test_a_failure_without_a_document_is_read_from_sagemakers_sentence(function: Function) -> None:
    job = function.accept()
    assert function(told(job, reason="ClientError: Received server error (503) from model.")) == {"again": 1}
    assert function(told(job, attempt=3, reason="ClientError: Received server error (503) from model.")) == {
        "failed": 1
    }
    failed = function.job(job)
    assert failed.error
    assert (failed.error.code, failed.error.retryable) == ("overloaded", True)
    assert "ClientError" not in failed.error.model_dump_json()


def test_a_result_that_cannot_be_read_costs_an_attempt(function: Function) -> None:
    job = function.accept()
    function.made(job, b'{"images": [')
    assert function(told(job)) == {"again": 1}
    assert function(told(job, attempt=3)) == {"failed": 1}
    failed = function.job(job)
    assert failed.error
    assert failed.error.code == "poisoned"


def test_row_55_an_attempt_past_the_deadline_is_not_sent(function: Function) -> None:
    job = function.accept()
    function.broke(job, GenerationFailed())
    function.now += 901
    assert function(told(job, reason="")) == {"failed": 1}
    failed = function.job(job)
    assert failed.error
    assert failed.error.code == "deadline_exceeded"
    assert not function.sent.calls


# ---- what no retry would help -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"Sns": {}},
        {"Sns": {"Message": "not JSON"}},
        {"Sns": {"Message": "[]"}},
        {"Sns": {"Message": "{}"}},
        {"Sns": {"Message": '{"inferenceId": 7, "invocationStatus": "Completed"}'}},
        {"Sns": {"Message": '{"inferenceId": "smoke-test", "invocationStatus": "Completed"}'}},
        told("0" * 32),
        told("0" * 32, reason="Received server error (500)"),
    ],
)
def test_a_message_about_no_job_of_ours_is_dropped_and_holds_up_nothing(
    function: Function, record: dict[str, Any]
) -> None:
    job = function.accept()
    function.made(job)
    assert function(record, told(job)) == {"ignored": 1, "succeeded": 1}


# ---- what a retry helps -------------------------------------------------------------------------------------------


def test_row_30_while_the_job_store_is_down_the_notification_is_kept(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = function.accept()
    function.made(job)
    with monkeypatch.context() as down:
        down.setattr(function.jobs, "settle", _unavailable)
        with pytest.raises(JobStoreUnavailable):
            function(told(job))
    assert function(told(job)) == {"succeeded": 1}


def test_row_67_while_the_object_store_is_down_the_notification_is_kept(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = function.accept(), function.accept()
    function.broke(sound, InvalidDimensions())
    with monkeypatch.context() as down:
        whole = function.store.get
        down.setattr(function.store, "get", lambda key: _storage_down() if key.startswith("out/") else whole(key))
        with pytest.raises(StorageUnavailable):
            function(told(broken), told(sound, reason=""))
    assert function.job(sound).status is JobStatus.FAILED  # a neighbour in the same event was closed all the same
    with pytest.raises(ObjectNotFound):  # told before it can be read
        function(told(broken))
    function.made(broken)
    assert function(told(broken), told(sound, reason="")) == {"succeeded": 1, "late": 1}


def test_an_attempt_that_cannot_be_sent_is_not_lost(function: Function) -> None:
    job = function.accept()
    function.broke(job, GenerationFailed())
    function.sent.down = True
    with pytest.raises(Unreached):
        function(told(job, reason=""))
    assert not function.job(job).status.finished
    function.sent.down = False
    assert function(told(job, reason="")) == {"again": 1}


def test_a_failure_that_is_told_three_times_starts_one_attempt(function: Function) -> None:
    job = function.accept()
    function.broke(job, GenerationFailed())
    assert function(told(job, reason=""), told(job, reason=""), told(job, reason="")) == {"again": 1, "repeated": 2}
    assert function(told(job, reason="")) == {"repeated": 1}  # in another invocation too
    assert function(told(job, attempt=2, reason=""), told(job, attempt=2, reason="")) == {"again": 1, "repeated": 1}
    assert function(told(job, reason="")) == {"repeated": 1}  # late, while the third attempt is under way
    assert function.sent.ids == [f"{job.id}.2", f"{job.id}.3"]


def test_of_two_that_hear_the_same_at_once_one_sends(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    job = function.accept()
    function.broke(job, GenerationFailed())
    seen = function.jobs.find(job.id)
    assert function(told(job, reason="")) == {"again": 1}
    monkeypatch.setattr(function.jobs, "find", lambda _: seen)  # it looked before the other had counted
    assert function(told(job, reason="")) == {"repeated": 1}
    assert function.sent.ids == [f"{job.id}.2"]


def test_an_attempt_whose_answer_is_lost_was_sent(function: Function) -> None:
    job = function.accept()
    function.broke(job, GenerationFailed())
    function.sent.silent = True
    assert function(told(job, reason="")) == {"again": 1}
    assert function(told(job, reason="")) == {"repeated": 1}
    function.made(job)
    assert function(told(job, attempt=2)) == {"succeeded": 1}


# ---- what nobody tells of -----------------------------------------------------------------------------------------


def test_every_accepted_job_ends_though_no_notification_ever_comes(function: Function) -> None:
    lost, dead, damaged = function.accept(), function.accept(), function.accept()
    function.made(lost)
    function.made(damaged, b"half")
    function.now += 900
    assert function.sweep() == {}  # its notification may still be on its way
    function.now += job_events.GRACE_SECONDS + 1
    fresh = function.accept()
    assert function.sweep() == {"succeeded": 1, "failed": 2}
    assert function.job(lost).result == RESULT
    for job in (dead, damaged):
        failed = function.job(job)
        assert failed.error
        assert (failed.error.code, failed.error.retryable) == ("deadline_exceeded", True)
    assert function.job(fresh).status is JobStatus.QUEUED
    assert function.sweep() == {}
    assert function(told(lost), told(dead)) == {"late": 2}


def test_row_87_neither_prompt_nor_reason_is_logged(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    for handler in logging.getLogger("darkroom-api").handlers:
        monkeypatch.setattr(handler, "stream", said)
    job = function.accept()
    function.broke(job, GenerationFailed("the engine said: a secret cat"))
    function(told(job, attempt=3, reason="a secret reason"), {"Sns": {"MessageId": "m", "Message": "a secret"}})
    assert "job closed" in said.getvalue()
    assert "secret" not in said.getvalue()


def _unavailable(*_: object) -> bool:
    raise JobStoreUnavailable


def _storage_down() -> bytes:
    raise StorageUnavailable
