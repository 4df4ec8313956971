"""SqlJobStore: jobs in SQLite (one machine) or Postgres."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from darkroom.contracts import GenerationRequest, GenerationResult, Job, JobStatus, Progress
from darkroom.database.sql import Database
from darkroom.errors import (
    IdempotencyKeyReused,
    JobFinished,
    JobNotFound,
    JobStoreUnavailable,
    JobUnfinished,
    Overloaded,
    Poisoned,
    Problem,
    RateLimited,
)
from darkroom.jobs import fairness, statements
from darkroom.jobs.lease_watch import LeaseWatch, Sight
from darkroom.jobs.schema import SCHEMA, jobs
from darkroom.jobs.statements import QUEUE, QUEUED, RUNNING, UNFINISHED
from darkroom.jobs.store import FULL_SECONDS, Accepted, Idempotency, Lease, Page, job_of, whole
from darkroom.retry import Retry

_RACES = Retry(tries=3)  # Postgres only: another writer took this idempotency key since we looked


class SqlJobStore:
    """A JobStore in one table, with what `database.sql.Database` promises.

    On SQLite `max_queued` and, of one tenant's jobs, `max_tenant_queued` are exact; on Postgres writers that race may
    exceed them by their number. `wall` (seconds since the epoch) only dates jobs; `monotonic` (seconds) measures
    leases. Opening it raises what `Database` does.
    """

    def __init__(
        self,
        url: str,
        *,
        max_queued: int = 1000,
        max_tenant_queued: int | None = None,
        max_attempts: int = 3,
        lease_seconds: float = 10.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_queued = max_queued
        self._max_tenant_queued = max_queued if max_tenant_queued is None else max_tenant_queued
        self._max_attempts = max_attempts
        self._wall = wall
        self._watch = LeaseWatch(lease_seconds, monotonic)
        self._database = Database(url, SCHEMA)

    def close(self) -> None:
        self._database.close()

    # ---- what the API does ----------------------------------------------------------------------------------------

    def create(
        self, model: str, request: GenerationRequest, *, tenant: str, idempotency: Idempotency | None
    ) -> Accepted:
        job = Job(id=secrets.token_hex(16), tenant=tenant, model=model, request=request, created_at=self._wall())
        try:
            return _RACES.call(lambda: self._accept(job, idempotency), on=IntegrityError)
        except (IntegrityError, JobStoreUnavailable) as failed:
            written = self._row(job.id)  # a server commits even where its answer is lost
            if written is None:
                raise JobStoreUnavailable from failed
            return Accepted(_job(written), replayed=False)

    def _accept(self, job: Job, idempotency: Idempotency | None) -> Accepted:
        with self._database.write() as connection:
            if idempotency and (first := _first(connection, job.tenant, idempotency)):
                if (first.fingerprint, first.model) != (idempotency.fingerprint, job.model):
                    raise IdempotencyKeyReused
                return Accepted(_job(first), replayed=first.id != job.id)
            queue = connection.execute(QUEUE, {"of_model": job.model, "of_tenant": job.tenant}).one()
            begun, last = whole(queue.running) or whole(queue.next), whole(queue.last)
            if queue.queued >= self._max_queued:
                raise Overloaded(retry_after=FULL_SECONDS)
            if queue.tenant >= self._max_tenant_queued:
                raise RateLimited(f"You have {self._max_tenant_queued} jobs waiting.", retry_after=FULL_SECONDS)
            connection.execute(
                insert(jobs).values(
                    id=job.id,
                    tenant=job.tenant,
                    model=job.model,
                    status=job.status.value,
                    request=job.readable_request().model_dump_json(),
                    created_at=job.created_at,
                    attempts=0,
                    step=0,
                    steps=0,
                    beat=0,
                    idempotency_key=idempotency.key if idempotency else None,
                    fingerprint=idempotency.fingerprint if idempotency else None,
                    tag=fairness.tag(fairness.work_of(job.readable_request()), last, begun),
                )
            )
            return Accepted(job, replayed=False)

    def get(self, job_id: str, *, tenant: str) -> Job:
        job = self.find(job_id)
        if job.tenant != tenant:
            raise JobNotFound
        return job

    def cancel(self, job_id: str, *, tenant: str) -> Job:
        self.get(job_id, tenant=tenant)
        row = self._while_unfinished(job_id, self._finished(JobStatus.CANCELLED))
        if row is None:
            raise JobFinished
        return _job(row)

    def page(self, tenant: str, *, status: JobStatus | None = None, before: int | None = None, limit: int = 20) -> Page:
        with self._database.read() as connection:
            rows = connection.execute(statements.page(tenant, status, before, limit + 1)).all()
        return Page([_job(row) for row in rows[:limit]], rows[limit - 1].seq if len(rows) > limit else None)

    def ahead(self, job: Job) -> int | None:
        with self._database.read() as connection:
            own = connection.execute(select(jobs.c.tag, jobs.c.seq).where(jobs.c.id == job.id, QUEUED)).one_or_none()
            if own is None:
                return None
            return int(connection.execute(statements.ahead(job.model, own.tag, own.seq)).scalar_one())

    def forget(self, job_id: str, *, tenant: str) -> None:
        finished = (jobs.c.id == job_id, jobs.c.tenant == tenant, jobs.c.status.not_in(UNFINISHED))
        with self._database.write() as connection:
            if connection.execute(delete(jobs).where(*finished)).rowcount:
                return
        self.get(job_id, tenant=tenant)
        raise JobUnfinished

    def counts(self) -> dict[JobStatus, int]:
        with self._database.read() as connection:
            rows = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status)).all()
        counted = {row.status: row[1] for row in rows}
        return {status: counted.get(status.value, 0) for status in JobStatus}

    def purge(self, *, finished_before: float) -> int:
        with self._database.write() as connection:
            return connection.execute(delete(jobs).where(jobs.c.finished_at < finished_before)).rowcount

    # ---- what a worker does ---------------------------------------------------------------------------------------

    def claim(self, worker: str, *, models: Collection[str], but_not_of: Collection[str] = ()) -> Lease | None:
        ours = (jobs.c.model.in_(sorted(models)), jobs.c.tenant.not_in(sorted(but_not_of)))
        queued = select(jobs).where(*ours, QUEUED).order_by(jobs.c.tag, jobs.c.seq).limit(1)
        while True:
            with self._database.read() as connection:  # an idle worker that looks for work takes no lock
                running = connection.execute(RUNNING).all()
                waiting = connection.execute(queued).first()
            served = {row.id for row in running if row.model in models}
            silent = self._watch.silent({row.id: (row.token, row.beat) for row in running})
            silent = {} if but_not_of else {job_id: sight for job_id, sight in silent.items() if job_id in served}
            if not silent and waiting is None:
                return None
            with self._database.write() as connection:
                row = _silent(connection, silent)
                if row is None:
                    row = connection.execute(queued.with_for_update(skip_locked=True)).one_or_none()
                if row is None:
                    return None
                if whole(row.attempts) < self._max_attempts:
                    return self._lease(connection, row, worker)
                values = self._finished(JobStatus.FAILED) | {"error": Poisoned().problem().model_dump_json()}
                connection.execute(update(jobs).where(jobs.c.seq == row.seq).values(values))

    def _lease(self, connection: Connection, row: Row[Any], worker: str) -> Lease:
        token = secrets.token_hex(16)
        taken = connection.execute(
            update(jobs)
            .where(jobs.c.seq == row.seq)
            .values(
                status=JobStatus.RUNNING.value,
                started_at=self._wall(),
                attempts=whole(row.attempts) + 1,
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
        return self._while_held(lease, self._ended(result))

    def fail(self, lease: Lease, problem: Problem) -> bool:
        return self._while_held(lease, self._ended(problem))

    def release(self, lease: Lease, *, counts_as_attempt: bool) -> bool:
        values = {"status": JobStatus.QUEUED.value, "token": None, "worker": None, "started_at": None}
        uncounted = {} if counts_as_attempt else {"attempts": jobs.c.attempts - 1}
        return self._while_held(lease, values | {"step": 0, "steps": 0} | uncounted)

    def _while_held(self, lease: Lease, values: dict[str, Any]) -> bool:
        """Write only under the lease's own token; a job that left it has another or none."""
        with self._database.write() as connection:
            held = update(jobs).where(jobs.c.id == lease.job.id, jobs.c.token == lease.token).values(values)
            return connection.execute(held).rowcount == 1

    def _finished(self, status: JobStatus) -> dict[str, Any]:
        return {"status": status.value, "finished_at": self._wall(), "token": None}

    def _ended(self, outcome: GenerationResult | Problem) -> dict[str, Any]:
        succeeded = isinstance(outcome, GenerationResult)
        status, column = (JobStatus.SUCCEEDED, "result") if succeeded else (JobStatus.FAILED, "error")
        return self._finished(status) | {column: outcome.model_dump_json()}

    # ---- what a service that runs jobs by itself does -------------------------------------------------------------

    def find(self, job_id: str) -> Job:
        row = self._row(job_id)
        if row is None:
            raise JobNotFound
        return _job(row)

    def settle(self, job_id: str, ended: GenerationResult | Problem) -> bool:
        return self._while_unfinished(job_id, self._ended(ended)) is not None

    def record_attempts(self, job_id: str, attempts: int, *, was: int) -> bool:
        return self._while_unfinished(job_id, {"attempts": attempts}, jobs.c.attempts == was) is not None

    def _while_unfinished(self, job_id: str, values: dict[str, Any], *when: ColumnElement[bool]) -> Row[Any] | None:
        """The job's row as it is then; None where it has ended, or `when` does not hold. Raises: JobNotFound."""
        unfinished = update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(UNFINISHED), *when)
        with self._database.write() as connection:
            row = connection.execute(unfinished.values(values).returning(jobs)).one_or_none()
        if row is None:
            self.find(job_id)
        return row

    def overdue(self, *, accepted_before: float) -> list[Job]:
        late = select(jobs).where(jobs.c.status.in_(UNFINISHED), jobs.c.created_at < accepted_before)
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(late.order_by(jobs.c.seq))]

    def _row(self, job_id: str) -> Row[Any] | None:
        with self._database.read() as connection:
            return connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()


def _first(connection: Connection, tenant: str, idempotency: Idempotency) -> Row[Any] | None:
    same = (jobs.c.tenant == tenant, jobs.c.idempotency_key == idempotency.key)
    return connection.execute(select(jobs).where(*same)).one_or_none()


def _silent(connection: Connection, silent: Mapping[str, Sight]) -> Row[Any] | None:
    """The row of a job whose holder fell silent, locked; it has waited longest."""
    for job_id, (token, beat) in silent.items():
        # Compare and set: whoever beat or took over since we looked keeps the job.
        unmoved = (jobs.c.id == job_id, jobs.c.token == token, jobs.c.beat == beat)
        row = connection.execute(select(jobs).where(*unmoved).with_for_update(skip_locked=True)).one_or_none()
        if row is not None:
            return row
    return None


def _job(row: Row[Any]) -> Job:
    return job_of(row._asdict(), row.request)
