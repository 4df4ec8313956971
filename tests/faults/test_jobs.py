"""Faults of workers, clocks and the job store; each test is named after its row of the table of faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from darkroom.contracts import GenerationRequest, GenerationResult, JobStatus, Progress
from darkroom.errors import JobStoreUnavailable
from darkroom.jobs import JobStore, Lease
from darkroom.jobs.sql import SqlJobStore
from darkroom.storage.directory import DirectoryStore

MODELS = ("crayon",)
LEASE_SECONDS = 10.0
REQUEST = GenerationRequest(prompt="a cat", seed=7)
RESULT = GenerationResult(images=[], seed=7, model="crayon", version="0" * 16, target="onnx-cpu")


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Clocks:
    wall: Clock
    monotonic: Clock


@pytest.fixture
def clocks() -> Clocks:
    return Clocks(Clock(1_800_000_000.0), Clock(0.0))


@pytest.fixture
def store(tmp_path: Path, clocks: Clocks) -> Iterator[JobStore]:
    with closing(opened(tmp_path, clocks)) as store:
        yield store


def opened(folder: Path, clocks: Clocks) -> SqlJobStore:
    url = f"sqlite:///{folder}/jobs.db"
    return SqlJobStore(url, lease_seconds=LEASE_SECONDS, wall=clocks.wall, monotonic=clocks.monotonic)


def submit(store: JobStore) -> str:
    return store.create("crayon", REQUEST, tenant="default", idempotency=None).job.id


def claim(store: JobStore) -> Lease:
    lease = store.claim("w", models=MODELS)
    assert lease
    return lease


def test_row_58_workers_killed_at_every_point_lose_no_job_and_finish_each_once(tmp_path: Path) -> None:
    program = Path(__file__).with_name("kill_loop.py")
    command = [sys.executable, str(program), str(tmp_path), "200", "60"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"killed": [-9] * 60, "survived": [0, 0]}

    ledger = (tmp_path / "ledger").read_text().splitlines()
    acknowledged = [line for line in ledger if line.startswith("acknowledged")]
    assert len(acknowledged) == len(set(acknowledged)) == 200
    assert sum(line.startswith("generated") for line in ledger) > 200  # killed attempts were repeated
    with closing(SqlJobStore(f"sqlite:///{tmp_path}/jobs.db")) as store:
        assert store.counts() == dict.fromkeys(JobStatus, 0) | {JobStatus.SUCCEEDED: 200}
        objects = DirectoryStore(tmp_path / "objects")
        assert len(list(objects.keys("images/"))) == 200  # one visible result each, and no partial object
        for line in acknowledged:
            job = store.get(line.split()[1], tenant="default")
            assert job.result
            (image,) = job.result.images
            assert len(objects.get(image.key)) == image.size


def test_row_60_a_poison_request_fails_alone(store: JobStore, clocks: Clocks) -> None:
    poison = submit(store)
    neighbours = [submit(store) for _ in range(3)]
    while not store.get(poison, tenant="default").status.finished:
        lease = store.claim("w", models=MODELS)
        if lease is None:
            clocks.monotonic.now += LEASE_SECONDS
        elif lease.job.id != poison:  # that one takes its worker with it: silence
            assert store.succeed(lease, RESULT)
    failed = store.get(poison, tenant="default")
    assert failed.status is JobStatus.FAILED
    assert failed.error
    assert failed.error.code == "poisoned"
    assert not failed.error.retryable
    assert all(store.get(job, tenant="default").status is JobStatus.SUCCEEDED for job in neighbours)


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_row_75_a_clock_that_jumps_an_hour_neither_loses_nor_repeats_a_job(
    store: JobStore, tmp_path: Path, clocks: Clocks, jump: float
) -> None:
    with closing(opened(tmp_path, clocks)) as other:
        first, second = submit(store), submit(store)
        running, dead = claim(store), claim(store)
        assert other.claim("v", models=MODELS) is None
        clocks.wall.now += jump
        assert other.claim("v", models=MODELS) is None  # nobody was silent: no double run
        clocks.monotonic.now += LEASE_SECONDS / 2
        assert store.beat(running, Progress(step=1, steps=8))
        clocks.wall.now -= jump
        clocks.monotonic.now += LEASE_SECONDS / 2
        taken = claim(other)  # silence is still noticed: no lost job
        assert taken.job.id == dead.job.id == second
        assert other.claim("v", models=MODELS) is None
        assert store.succeed(running, RESULT)
        assert not store.succeed(dead, RESULT)
        assert other.succeed(taken, RESULT)
        for job_id in (first, second):
            assert store.get(job_id, tenant="default").status is JobStatus.SUCCEEDED


def test_row_30_a_job_store_that_is_down_accepts_nothing(tmp_path: Path, clocks: Clocks) -> None:
    store = opened(tmp_path, clocks)
    job = submit(store)
    store.close()
    database = tmp_path / "jobs.db"
    sound = database.read_bytes()
    database.write_bytes(b"\xff" * len(sound))
    with pytest.raises(JobStoreUnavailable) as refused:
        submit(store)
    assert (refused.value.status, refused.value.retryable) == (503, True)
    store.close()
    database.write_bytes(sound)
    assert store.get(job, tenant="default").status is JobStatus.QUEUED  # recovers by itself
    store.close()
