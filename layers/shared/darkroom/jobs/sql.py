"""SqlJobStore: jobs in SQLite (one machine) or Postgres."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from darkroom.contracts import GenerationRequest, GenerationResult, Job, JobStatus, Progress
from darkroom.errors import (
    IdempotencyKeyReused,
    JobFinished,
    JobNotFound,
    JobStoreUnavailable,
    Overloaded,
    Poisoned,
    Problem,
)
from darkroom.jobs import Accepted, Idempotency, Lease, schema
from darkroom.jobs.database import answering, open_engine
from darkroom.jobs.lease_watch import LeaseWatch, Sight
from darkroom.jobs.schema import jobs

_RETRY_AFTER_SECONDS = 5
_RUNNING = select(jobs.c.id, jobs.c.token, jobs.c.beat).where(jobs.c.status == "running").order_by(jobs.c.seq)
_QUEUED = select(jobs).where(jobs.c.status == "queued").order_by(jobs.c.seq).limit(1)
_UNFINISHED = [status.value for status in JobStatus if not status.finished]
_DONE = [status.value for status in JobStatus if status.finished]


class SqlJobStore:
    """A JobStore in one table. Safe to use from several threads, and from several processes on one database.

    SQLite runs in WAL mode with `synchronous=FULL`: what was accepted survives a power cut. There every write takes the
    database's one write lock at its start (`BEGIN IMMEDIATE`), so `max_queued` is exact; on Postgres writers that race
    may exceed it by their number.

    `wall` (seconds since the epoch) only dates jobs; `monotonic` (seconds) measures leases.
    Raises JobStoreUnavailable when the database cannot be opened or is of a newer version; ValueError for a database
    in memory, which would forget what it accepted.
    """

    def __init__(
        self,
        url: str,
        *,
        max_queued: int = 1000,
        max_attempts: int = 3,
        lease_seconds: float = 10.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_queued = max_queued
        self._max_attempts = max_attempts
        self._wall = wall
        self._watch = LeaseWatch(lease_seconds, monotonic)
        self._engine = open_engine(url)
        self._reading = self._engine.execution_options(sqlite_begin="DEFERRED")
        with self._write() as connection:
            schema.create(connection)

    def close(self) -> None:
        """Let go of the database's connections; the store opens new ones if it is used again."""
        self._engine.dispose()

    # ---- what the API does ----------------------------------------------------------------------------------------

    def create(
        self, model: str, request: GenerationRequest, *, tenant: str, idempotency: Idempotency | None
    ) -> Accepted:
        for _ in range(3):
            try:
                with self._write() as connection:
                    if idempotency and (first := _first(connection, tenant, idempotency)):
                        if (first.fingerprint, first.model) != (idempotency.fingerprint, model):
                            raise IdempotencyKeyReused
                        return Accepted(_job(first), replayed=True)
                    return Accepted(self._insert(connection, model, request, tenant, idempotency), replayed=False)
            except IntegrityError:  # Postgres only: another writer took this idempotency key since we looked
                continue
        raise JobStoreUnavailable

    def _insert(
        self,
        connection: Connection,
        model: str,
        request: GenerationRequest,
        tenant: str,
        idempotency: Idempotency | None,
    ) -> Job:
        queued = connection.execute(
            select(func.count()).select_from(jobs).where(jobs.c.status == JobStatus.QUEUED.value)
        ).scalar_one()
        if queued >= self._max_queued:
            raise Overloaded(retry_after=_RETRY_AFTER_SECONDS)
        job = Job(id=secrets.token_hex(16), tenant=tenant, model=model, request=request, created_at=self._wall())
        connection.execute(
            insert(jobs).values(
                id=job.id,
                tenant=tenant,
                model=model,
                status=job.status.value,
                request=request.model_dump_json(),
                created_at=job.created_at,
                attempts=0,
                step=0,
                steps=0,
                beat=0,
                idempotency_key=idempotency.key if idempotency else None,
                fingerprint=idempotency.fingerprint if idempotency else None,
            )
        )
        return job

    def get(self, job_id: str, *, tenant: str) -> Job:
        with self._read() as connection:
            row = connection.execute(_of_tenant(job_id, tenant)).one_or_none()
        if row is None:
            raise JobNotFound
        return _job(row)

    def cancel(self, job_id: str, *, tenant: str) -> Job:
        with self._write() as connection:
            row = connection.execute(_of_tenant(job_id, tenant).with_for_update()).one_or_none()
            if row is None:
                raise JobNotFound
            if row.status in _DONE:
                raise JobFinished
            connection.execute(update(jobs).where(jobs.c.seq == row.seq).values(self._finished(JobStatus.CANCELLED)))
            return _job(connection.execute(_of_tenant(job_id, tenant)).one())

    def counts(self) -> dict[JobStatus, int]:
        with self._read() as connection:
            rows = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status)).all()
        return dict.fromkeys(JobStatus, 0) | {JobStatus(status): count for status, count in rows}

    def purge(self, *, finished_before: float) -> int:
        with self._write() as connection:
            return connection.execute(delete(jobs).where(jobs.c.finished_at < finished_before)).rowcount

    # ---- what a worker does ---------------------------------------------------------------------------------------

    def claim(self, worker: str) -> Lease | None:
        while True:
            with self._read() as connection:  # an idle worker that looks for work takes no lock
                running = connection.execute(_RUNNING).all()
                queued = connection.execute(_QUEUED).first()
            silent = self._watch.silent({row.id: (row.token, row.beat) for row in running})
            if not silent and queued is None:
                return None
            with self._write() as connection:
                row = self._next(connection, silent)
                if row is None:
                    return None
                if row.attempts < self._max_attempts:
                    return self._lease(connection, row, worker)
                values = self._finished(JobStatus.FAILED) | {"error": Poisoned().problem().model_dump_json()}
                connection.execute(update(jobs).where(jobs.c.seq == row.seq).values(values))

    def _next(self, connection: Connection, silent: Mapping[str, Sight]) -> Row[Any] | None:
        """The row to run next, locked: one whose holder fell silent (it has waited longest), else the oldest queued."""
        for job_id, (token, beat) in silent.items():
            # Compare and set: whoever beat or took over since we looked keeps the job.
            unmoved = (jobs.c.id == job_id, jobs.c.token == token, jobs.c.beat == beat)
            row = connection.execute(select(jobs).where(*unmoved).with_for_update(skip_locked=True)).one_or_none()
            if row is not None:
                return row
        return connection.execute(_QUEUED.with_for_update(skip_locked=True)).one_or_none()

    def _lease(self, connection: Connection, row: Row[Any], worker: str) -> Lease:
        token = secrets.token_hex(16)
        taken = connection.execute(
            update(jobs)
            .where(jobs.c.seq == row.seq)
            .values(
                status=JobStatus.RUNNING.value,
                started_at=self._wall(),
                attempts=row.attempts + 1,
                step=0,
                steps=0,
                worker=worker,
                token=token,
                beat=0,
            )
            .returning(jobs)
        ).one()
        return Lease(_job(taken), token)

    def beat(self, lease: Lease, progress: Progress) -> bool:
        return self._while_held(lease, {"beat": jobs.c.beat + 1, "step": progress.step, "steps": progress.steps})

    def succeed(self, lease: Lease, result: GenerationResult) -> bool:
        return self._while_held(lease, self._finished(JobStatus.SUCCEEDED) | {"result": result.model_dump_json()})

    def fail(self, lease: Lease, problem: Problem) -> bool:
        return self._while_held(lease, self._finished(JobStatus.FAILED) | {"error": problem.model_dump_json()})

    def release(self, lease: Lease, *, counts_as_attempt: bool) -> bool:
        values = {"status": JobStatus.QUEUED.value, "token": None, "worker": None, "started_at": None}
        uncounted = {} if counts_as_attempt else {"attempts": jobs.c.attempts - 1}
        return self._while_held(lease, values | {"step": 0, "steps": 0} | uncounted)

    def _while_held(self, lease: Lease, values: dict[str, Any]) -> bool:
        """Write only under the lease's own token; a job that left it has another or none."""
        with self._write() as connection:
            held = update(jobs).where(jobs.c.id == lease.job.id, jobs.c.token == lease.token).values(values)
            return connection.execute(held).rowcount == 1

    def _finished(self, status: JobStatus) -> dict[str, Any]:
        return {"status": status.value, "finished_at": self._wall(), "token": None}

    # ---- what is told by a service that runs jobs ----------------------------------------------------------------

    def find(self, job_id: str) -> Job:
        with self._read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise JobNotFound
        return _job(row)

    def settle(self, job_id: str, ended: GenerationResult | Problem) -> bool:
        status, column = (
            (JobStatus.SUCCEEDED, "result") if isinstance(ended, GenerationResult) else (JobStatus.FAILED, "error")
        )
        values = self._finished(status) | {column: ended.model_dump_json()}
        with self._write() as connection:
            unfinished = update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(_UNFINISHED)).values(values)
            if connection.execute(unfinished).rowcount == 1:
                return True
        self.find(job_id)
        return False

    def overdue(self, *, accepted_before: float) -> list[Job]:
        late = select(jobs).where(jobs.c.status.in_(_UNFINISHED), jobs.c.created_at < accepted_before)
        with self._read() as connection:
            return [_job(row) for row in connection.execute(late.order_by(jobs.c.seq))]

    # ---- the database ---------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with answering(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with answering(), self._reading.begin() as connection:
            yield connection


def _of_tenant(job_id: str, tenant: str) -> Select[Any]:
    return select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant)


def _first(connection: Connection, tenant: str, idempotency: Idempotency) -> Row[Any] | None:
    same = (jobs.c.tenant == tenant, jobs.c.idempotency_key == idempotency.key)
    return connection.execute(select(jobs).where(*same)).one_or_none()


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        tenant=row.tenant,
        model=row.model,
        request=GenerationRequest.model_validate_json(row.request),
        status=JobStatus(row.status),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        attempts=row.attempts,
        progress=Progress(step=row.step, steps=row.steps),
        result=GenerationResult.model_validate_json(row.result) if row.result else None,
        error=Problem.model_validate_json(row.error) if row.error else None,
    )
