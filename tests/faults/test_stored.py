"""What was stored by another release or damaged since, and jobs that nobody works on: each ends, and alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from darkroom.contracts import GenerationRequest, GenerationResult
from darkroom.jobs.sql import SqlJobStore
from local.replicas import deadlines
from tests.fakes.deployment import Running, running

POLICY = "/v1/models/crayon/scaling-policy"
DEEP = '{"a":' * 1000 + "1" + "}" * 1000
RESULT = GenerationResult(images=[], seed=1, model="crayon", version="0" * 16, target="onnx-cpu")
NEVER_READY = ("-c", "import signal; signal.pause()")


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


NOT_UTF_8 = "CAST(x'7bff7d' AS TEXT)"


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


@pytest.mark.parametrize("column", ["request", "idempotency_key", "error"])
def test_text_that_is_not_utf_8_stops_no_other_job(tmp_path: Path, column: str) -> None:
    """One flipped bit, and every claim said that the store does not answer."""
    broken, whole = queued(tmp_path, "a dog", "a cat")
    overwrite(tmp_path, f"UPDATE darkroom_jobs SET {column} = {NOT_UTF_8} WHERE id = ?", broken)  # noqa: S608
    with running(tmp_path) as deployment:
        assert deployment.finished(whole)["status"] == "succeeded"
        told = deployment.finished(broken)
        if column == "request":
            assert (told["status"], told["error"]["code"]) == ("failed", "unreadable")
        else:
            assert told["status"] == "succeeded"


@pytest.mark.parametrize("column", ["created_at", "started_at", "attempts", "step", "steps", "tag", "beat", "tenant"])
@pytest.mark.parametrize("value", ["'text'", "x'ff00'", "9e999"])
def test_a_column_that_holds_something_else_stops_no_other_job(tmp_path: Path, column: str, value: str) -> None:
    """SQLite keeps text in a column of numbers; whoever claimed, accepted or looked met it."""
    broken, whole = queued(tmp_path, "a dog", "a cat")
    overwrite(tmp_path, f"UPDATE darkroom_jobs SET {column} = {value} WHERE id = ?", broken)  # noqa: S608
    store = SqlJobStore(f"sqlite:///{tmp_path / 'data' / 'jobs.db'}")
    with closing(store):
        later = store.create("crayon", GenerationRequest(prompt="a bird"), tenant="default", idempotency=None).job.id
        claimed = []
        while lease := store.claim("w", models=["crayon"]):
            claimed.append(lease.job.id)
            store.succeed(lease, RESULT)
        assert {whole, later} <= set(claimed)
        assert store.find(broken).id == broken
        store.overdue(accepted_before=1e12)


def test_a_result_that_cannot_be_read_is_a_failure_that_is_told(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        job = deployment.predict("a dog").json()["id"]
        overwrite(tmp_path, "UPDATE darkroom_jobs SET result = ? WHERE id = ?", '{"images": 5}', job)
        told = deployment.job(job)
        assert (told["status"], told["error"]["code"]) == ("failed", "unreadable")


@pytest.mark.parametrize("text", ["no JSON", '{"min": 0, "max": 1, "of_a_newer_release": 1}', DEEP])
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
