"""What was stored by another release or damaged since, and jobs that nobody works on: each ends, and alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from darkroom.contracts import GenerationRequest
from darkroom.jobs.sql import SqlJobStore
from local.replicas import deadlines
from tests.fakes.deployment import Running, running

POLICY = "/v1/models/crayon/scaling-policy"
NEVER_READY = ("-c", "import time; time.sleep(600)")


def queued(directory: Path, *prompts: str) -> list[str]:
    """Jobs that an earlier process accepted and did not begin."""
    (directory / "data").mkdir()
    store = SqlJobStore(f"sqlite:///{directory / 'data' / 'jobs.db'}")
    requests = [GenerationRequest(prompt=prompt, seed=1, num_inference_steps=3) for prompt in prompts]
    ids = [store.create("crayon", request, tenant="default", idempotency=None).job.id for request in requests]
    store.close()
    return ids


def overwrite(directory: Path, statement: str, *values: str) -> None:
    database = sqlite3.connect(directory / "data" / "jobs.db")
    with database:
        assert database.execute(statement, values).rowcount == 1
    database.close()


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"prompt": "a dog", "of_a_newer_release": 1}'])
def test_a_queued_job_that_cannot_be_read_fails_alone(tmp_path: Path, text: str) -> None:
    """Every start ended with exit 1."""
    broken, whole = queued(tmp_path, "a dog", "a cat")
    overwrite(tmp_path, "UPDATE darkroom_jobs SET request = ? WHERE id = ?", text, broken)
    with running(tmp_path) as deployment:
        told = deployment.finished(broken)
        assert (told["status"], told["error"]["code"], "request" in told) == ("failed", "unreadable", False)
        assert deployment.finished(whole)["status"] == "succeeded"
        assert deployment.made() == [whole]


def test_a_result_that_cannot_be_read_is_a_failure_that_is_told(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        job = deployment.predict("a dog").json()["id"]
        overwrite(tmp_path, "UPDATE darkroom_jobs SET result = ? WHERE id = ?", '{"images": 5}', job)
        told = deployment.job(job)
        assert (told["status"], told["error"]["code"]) == ("failed", "unreadable")


@pytest.mark.parametrize("text", ["no JSON", '{"min": 0, "max": 1, "of_a_newer_release": 1}'])
def test_a_policy_that_cannot_be_read_leaves_the_fleet_as_it_is(tmp_path: Path, text: str) -> None:
    with running(tmp_path) as deployment:
        assert deployment.client.put(POLICY, json={"min": 1, "max": 1}).status_code == 201
        overwrite(tmp_path, "UPDATE darkroom_scaling_policies SET document = ?, version = version + 1", text)
        assert deployment.client.get(POLICY).status_code == 200
        plan = deployment.client.get("/v1/models/crayon/scaling-plan")
        assert (plan.status_code, plan.json()["code"]) == (422, "invalid_policy")
        assert deployment.predict("a dog").status_code == 200
        assert deployment.client.put(POLICY, json={"min": 1, "max": 2}).status_code == 200
        assert deployment.client.get(POLICY).json() == {"min": 1, "max": 2}


def ends_at_its_deadline(deployment: Running) -> bool:
    told = deployment.finished(deployment.submit("a dog"))
    return (told["status"], told["error"]["code"]) == ("failed", "deadline_exceeded")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "LOOK_SECONDS", 0.05)


@pytest.mark.usefixtures("often")
def test_row_55_the_deadline_passes_while_no_replica_is_allowed(tmp_path: Path) -> None:
    """202, and the job never ended."""
    with running(tmp_path, job_seconds=0.5) as deployment:
        deployment.client.put(POLICY, json={"min": 0, "max": 1, "stop_at": "2020-01-01T00:00"})
        deployment.until(lambda: deployment.client.get("/ping").json()["status"] == "stopped")
        assert ends_at_its_deadline(deployment)


@pytest.mark.usefixtures("often")
def test_row_55_the_deadline_passes_before_any_replica_is_ready(tmp_path: Path) -> None:
    with running(tmp_path, job_seconds=0.5, program=NEVER_READY, until_ready=False) as deployment:
        assert ends_at_its_deadline(deployment)
