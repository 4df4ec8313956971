"""What the handlers call, as the settings of a deployment choose it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from darkroom.contracts import GenerationRequest, Job, JobStatus, Progress
from darkroom.inference import QueuedInference
from darkroom.inference.sagemaker import SageMakerAsync, SageMakerRealTime
from darkroom.jobs.sql import SqlJobStore
from darkroom.settings import Settings
from functions import wiring

ENDPOINTS = {"endpoints": "crayon=darkroom-crayon", "async_url": "s3://images/async"}


@pytest.fixture
def jobs(tmp_path: Path) -> SqlJobStore:
    return SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, QueuedInference),
        (ENDPOINTS, SageMakerAsync),
        ({**ENDPOINTS, "endpoint_type": "real-time"}, SageMakerRealTime),
    ],
)
def test_where_jobs_are_handed_to(jobs: SqlJobStore, given: dict[str, str], kind: type) -> None:
    assert isinstance(wiring.inference(Settings.model_validate(given), jobs), kind)


def test_only_models_with_an_endpoint_are_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DARKROOM_STORE_URL", f"file://{tmp_path}")
    monkeypatch.setenv("DARKROOM_JOBS_URL", f"sqlite:///{tmp_path / 'jobs.db'}")
    monkeypatch.setenv("DARKROOM_ENDPOINTS", "crayon=darkroom-crayon")
    wiring.from_environment.cache_clear()
    try:
        wired = wiring.from_environment()
        assert wired is wiring.from_environment()  # built once a process
        assert wired.manifests.names() == []
    finally:
        wiring.from_environment.cache_clear()


def test_a_wait_looks_less_and_less_often_and_ends_with_the_job(jobs: SqlJobStore) -> None:
    job = jobs.create("crayon", GenerationRequest(prompt="a"), tenant="t", idempotency=None).job
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            jobs.cancel(job.id, tenant="t")

    ended = wiring.polling(jobs, clock=lambda: sum(pauses), sleep=sleep)(job, 25.0)
    assert ended.status is JobStatus.CANCELLED
    assert len(pauses) == 8
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (wiring.FIRST_PAUSE, wiring.LONGEST_PAUSE)


@pytest.mark.parametrize("seconds", [0.0, 0.4, 3.0])
def test_a_wait_ends_with_the_callers_patience(jobs: SqlJobStore, seconds: float) -> None:
    job = jobs.create("crayon", GenerationRequest(prompt="a"), tenant="t", idempotency=None).job
    spent: list[float] = []
    wait = wiring.polling(jobs, clock=lambda: sum(spent), sleep=spent.append)
    assert wait(job, seconds).status is JobStatus.QUEUED
    assert sum(spent) == pytest.approx(seconds)


def test_a_finished_job_is_not_waited_for(jobs: SqlJobStore) -> None:
    finished = Job(
        id="0" * 32,
        tenant="t",
        model="crayon",
        request=GenerationRequest(prompt="a"),
        status=JobStatus.FAILED,
        created_at=time.time(),
        progress=Progress(),
    )
    assert wiring.polling(jobs, sleep=lambda _: pytest.fail("it waited"))(finished, 25.0) is finished


def test_importing_it_costs_no_client_of_aws() -> None:
    code = "import sys, functions.wiring; print(sorted({'boto3', 'botocore', 'sqlalchemy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "[]"
