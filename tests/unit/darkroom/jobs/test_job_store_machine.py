"""Any history of submissions, workers, deaths and clock jumps, compared step by step with a plain model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from darkroom.contracts import GenerationRequest, GenerationResult, JobStatus, Progress
from darkroom.errors import GenerationFailed, IdempotencyKeyReused, JobFinished, Overloaded, Problem
from darkroom.jobs import Idempotency, JobStore, Lease
from darkroom.jobs.dynamodb import DynamoJobStore
from darkroom.jobs.items import TABLE
from darkroom.jobs.sql import SqlJobStore

MODELS = ("crayon",)
LEASE_SECONDS = 10.0
MAX_QUEUED = 4
MAX_ATTEMPTS = 2
PROCESSES = 2
RESULT = GenerationResult(images=[], seed=1, model="crayon", version="0" * 16, target="onnx-cpu")
PROBLEM: Problem = GenerationFailed().problem()


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Modelled:
    """What a job should be."""

    order: int
    status: JobStatus = JobStatus.QUEUED
    attempts: int = 0
    token: str | None = None
    beat: int = 0
    finished_at: float | None = None
    endings: int = 0

    def end(self, status: JobStatus, now: float) -> None:
        self.status, self.token, self.finished_at = status, None, now
        self.endings += 1


@dataclass
class Process:
    """One process' view: its own store object, its own clock, and what it saw of running jobs since when."""

    store: JobStore
    clock: Clock
    seen: dict[str, tuple[tuple[str | None, int], float]] = field(default_factory=dict)


class JobStoreMachine(RuleBasedStateMachine):
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.wall = Clock(1_800_000_000.0)
        self.jobs: dict[str, Modelled] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.order = count()
        self.processes: list[Process] = []

    @initialize()
    def open(self) -> None:
        for number in range(PROCESSES):
            clock = Clock(1000.0 * number)
            self.processes.append(Process(self.opened(clock), clock))

    def opened(self, clock: Clock) -> JobStore:
        return SqlJobStore(
            f"sqlite:///{self.folder.name}/jobs.db",
            max_queued=MAX_QUEUED,
            max_attempts=MAX_ATTEMPTS,
            lease_seconds=LEASE_SECONDS,
            wall=self.wall,
            monotonic=clock,
        )

    def teardown(self) -> None:
        try:
            self.finish_everything()
        finally:
            for process in self.processes:
                process.store.close()
            self.folder.cleanup()

    # ---- what callers do ------------------------------------------------------------------------------------------

    @rule(key=st.sampled_from([None, None, "k", "l"]), fingerprint=st.sampled_from(["f", "f", "g"]))
    def submit(self, key: str | None, fingerprint: str) -> None:
        idempotency = Idempotency(key, fingerprint) if key else None
        queued = sum(job.status is JobStatus.QUEUED for job in self.jobs.values())
        store = self.processes[0].store
        request = GenerationRequest(prompt="a cat")
        try:
            accepted = store.create("crayon", request, tenant="one", idempotency=idempotency)
        except IdempotencyKeyReused:
            assert key
            assert self.keys[key][0] != fingerprint
        except Overloaded:
            assert queued >= MAX_QUEUED
            assert key not in self.keys
        else:
            assert accepted.replayed == (key in self.keys)
            if key and accepted.replayed:
                assert self.keys[key] == (fingerprint, accepted.job.id)
                return
            assert queued < MAX_QUEUED
            self.jobs[accepted.job.id] = Modelled(next(self.order))
            if key:
                self.keys[key] = (fingerprint, accepted.job.id)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if not self.jobs:
            return
        job_id = data.draw(st.sampled_from(sorted(self.jobs, key=lambda one: self.jobs[one].order)))
        job = self.jobs[job_id]
        try:
            assert self.processes[1].store.cancel(job_id, tenant="one").status is JobStatus.CANCELLED
        except JobFinished:
            assert job.status.finished
        else:
            job.end(JobStatus.CANCELLED, self.wall.now)

    @rule(data=st.data(), well=st.booleans())
    def settle(self, data: st.DataObject, well: bool) -> None:
        """As a service that runs jobs by itself does, with or without a lease held by somebody."""
        if not self.jobs:
            return
        job_id = data.draw(st.sampled_from(sorted(self.jobs, key=lambda one: self.jobs[one].order)))
        job = self.jobs[job_id]
        assert self.processes[0].store.settle(job_id, RESULT if well else PROBLEM) != job.status.finished
        if not job.status.finished:
            job.end(JobStatus.SUCCEEDED if well else JobStatus.FAILED, self.wall.now)

    @rule()
    def purge(self) -> None:
        before = self.wall.now - 1800
        old = [one for one, job in self.jobs.items() if job.finished_at is not None and job.finished_at < before]
        assert self.processes[0].store.purge(finished_before=before) == len(old)
        for job_id in old:
            del self.jobs[job_id]
        self.keys = {key: entry for key, entry in self.keys.items() if entry[1] in self.jobs}

    # ---- what workers do ------------------------------------------------------------------------------------------

    @rule(target=leases, number=st.integers(0, PROCESSES - 1))
    def claim(self, number: int) -> object:
        process = self.processes[number]
        expected = self.expected_claim(process)
        lease = process.store.claim(f"worker-{number}", models=MODELS)
        assert (lease and lease.job.id) == expected
        if lease is None:
            return multiple()
        job = self.jobs[lease.job.id]
        assert lease.token != job.token
        job.status, job.token, job.beat, job.attempts = JobStatus.RUNNING, lease.token, 0, job.attempts + 1
        assert lease.job.attempts == job.attempts
        return lease

    def expected_claim(self, process: Process) -> str | None:
        """The job that this process must get now; poisoned ones in front of it are ended."""
        while True:
            in_order = sorted(self.jobs.items(), key=lambda entry: entry[1].order)
            running = {one: (job.token, job.beat) for one, job in in_order if job.status is JobStatus.RUNNING}
            for job_id in [*process.seen]:
                if running.get(job_id) != process.seen[job_id][0]:
                    del process.seen[job_id]
            for job_id, sight in running.items():
                process.seen.setdefault(job_id, (sight, process.clock.now))
            silent = [one for one in running if process.clock.now - process.seen[one][1] >= LEASE_SECONDS]
            queued = [one for one, job in in_order if job.status is JobStatus.QUEUED]
            if not (chosen := next(iter(silent + queued), None)):
                return None
            if self.jobs[chosen].attempts < MAX_ATTEMPTS:
                return chosen
            self.jobs[chosen].end(JobStatus.FAILED, self.wall.now)

    def held(self, lease: Lease) -> Modelled | None:
        job = self.jobs.get(lease.job.id)
        return job if job and job.token == lease.token else None

    @rule(lease=leases)
    def beat(self, lease: Lease) -> None:
        job = self.held(lease)
        assert self.processes[0].store.beat(lease, Progress(step=1, steps=2)) == (job is not None)
        if job:
            job.beat += 1

    @rule(lease=leases)
    def succeed(self, lease: Lease) -> None:
        job = self.held(lease)
        assert self.processes[0].store.succeed(lease, RESULT) == (job is not None)
        if job:
            job.end(JobStatus.SUCCEEDED, self.wall.now)

    @rule(lease=leases)
    def fail(self, lease: Lease) -> None:
        job = self.held(lease)
        assert self.processes[1].store.fail(lease, PROBLEM) == (job is not None)
        if job:
            job.end(JobStatus.FAILED, self.wall.now)

    @rule(lease=leases, counts=st.booleans())
    def release(self, lease: Lease, counts: bool) -> None:
        job = self.held(lease)
        assert self.processes[1].store.release(lease, counts_as_attempt=counts) == (job is not None)
        if job:
            job.status, job.token = JobStatus.QUEUED, None
            job.attempts -= not counts

    @rule(lease=consumes(leases))
    def kill_worker(self, lease: Lease) -> None:
        """Nothing is ever done with this lease again."""

    @rule(number=st.integers(0, PROCESSES - 1))
    def kill_process(self, number: int) -> None:
        """It starts again with a new clock and nothing seen."""
        self.processes[number].store.close()
        clock = Clock(7.0)
        self.processes[number] = Process(self.opened(clock), clock)

    # ---- time -----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([LEASE_SECONDS, LEASE_SECONDS, LEASE_SECONDS - 1, 1.0]))
    def time_passes(self, seconds: float) -> None:
        for process in self.processes:
            process.clock.now += seconds

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def wall_clock_jumps(self, seconds: float) -> None:
        self.wall.now += seconds

    # ---- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def each_job_is_as_modelled(self) -> None:
        if not self.processes:
            return
        store = self.processes[0].store
        for job_id, expected in self.jobs.items():
            job = store.get(job_id, tenant="one")
            assert (job.status, job.attempts) == (expected.status, expected.attempts)
            assert job.finished_at == expected.finished_at
            assert (job.result is not None) == (job.status is JobStatus.SUCCEEDED)
            assert (job.error is not None) == (job.status is JobStatus.FAILED)
            assert expected.endings == expected.status.finished
        assert sum(store.counts().values()) == len(self.jobs)

    def finish_everything(self) -> None:
        """With one worker that lives, every job left reaches its end."""
        if not self.processes:
            return
        process = self.processes[0]
        for _ in range(2):  # the first round starts the watch of whatever the dead still hold
            while (expected := self.expected_claim(process)) is not None:
                lease = process.store.claim("last", models=MODELS)
                assert lease
                assert lease.job.id == expected
                self.jobs[expected].attempts += 1
                assert process.store.succeed(lease, RESULT)
                self.jobs[expected].end(JobStatus.SUCCEEDED, self.wall.now)
            assert process.store.claim("last", models=MODELS) is None
            process.clock.now += LEASE_SECONDS
        self.each_job_is_as_modelled()
        assert all(job.status.finished for job in self.jobs.values())


class DynamoJobStoreMachine(JobStoreMachine):
    """The same histories in a new table each."""

    tables = count()

    def __init__(self) -> None:
        import boto3

        super().__init__()
        self.table = f"machine-{next(self.tables)}"
        boto3.client("dynamodb").create_table(TableName=self.table, **TABLE)

    def opened(self, clock: Clock) -> JobStore:
        return DynamoJobStore(
            self.table,
            max_queued=MAX_QUEUED,
            max_attempts=MAX_ATTEMPTS,
            lease_seconds=LEASE_SECONDS,
            wall=self.wall,
            monotonic=clock,
        )


@pytest.fixture(scope="module", autouse=True)
def _dynamodb() -> Iterator[None]:
    from tests.fakes import aws

    with aws.serving() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in aws.environment(endpoint).items():
            patch.setenv(name, value)
        yield


TestJobStoreMachine = JobStoreMachine.TestCase
TestJobStoreMachine.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow],
)

TestDynamoJobStoreMachine = DynamoJobStoreMachine.TestCase
TestDynamoJobStoreMachine.settings = settings(  # each call is a real HTTP request here
    max_examples=5,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
