"""What every job store owes: each accepted job reaches exactly one end, whatever dies on the way."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from darkroom.contracts import GenerationRequest, GenerationResult, Job, JobStatus, Progress
from darkroom.errors import Problem, Unreadable

D = TypeVar("D", bound=BaseModel)
_STATUSES = {status.value: status for status in JobStatus}

_END_OF_TIME = 253_402_300_800  # the year 10000, which no date has

FULL_SECONDS = 5  # after which a caller whom a full queue turned away may come again


@dataclass(frozen=True)
class Idempotency:
    """A caller's Idempotency-Key and the fingerprint (SHA-256 hex) of the body it came with."""

    key: str
    fingerprint: str


@dataclass(frozen=True)
class Accepted:
    """The job of a submission. `replayed`: it was accepted before under the same idempotency key; nothing was added."""

    job: Job
    replayed: bool


@dataclass(frozen=True)
class Page:
    """Some of a tenant's jobs, newest first; those before `next` are the following page, None: there are no more."""

    jobs: list[Job]
    next: int | None = None


@dataclass(frozen=True)
class Lease:
    """The right to work on a job. A token is never reused: a stale holder's writes are refused (fencing)."""

    job: Job
    token: str


def job_of(record: Mapping[str, Any], request: str | bytes) -> Job:
    """The job in a store's record: its columns or attributes by name; one that is not there is None.

    A record that this release cannot read is still a job: without its request, or failed as `unreadable` where that
    had ended.
    """
    result, error = _read(GenerationResult, record.get("result")), _read(Problem, record.get("error"))
    status = _STATUSES.get(record["status"], JobStatus.FAILED)
    if (status is JobStatus.SUCCEEDED and result is None) or (status is JobStatus.FAILED and error is None):
        status, error = JobStatus.FAILED, Unreadable().problem()
    return Job(
        id=str(record["id"]),
        tenant=str(record["tenant"]),
        model=str(record["model"]),
        request=_read(GenerationRequest, request),
        status=status,
        created_at=_epoch(record["created_at"]) or 0.0,
        started_at=_epoch(record.get("started_at")),
        finished_at=_epoch(record.get("finished_at")),
        attempts=whole(record["attempts"]),
        progress=Progress(step=whole(record["step"]), steps=whole(record["steps"])),
        result=result,
        error=error,
    )


def whole(value: Any) -> int:
    """A number that a record should hold; 0 for what is none (SQLite keeps text in a column of numbers)."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def _epoch(value: Any) -> float | None:
    """Seconds since the epoch, if they are a date's."""
    return float(value) if isinstance(value, int | float) and 0 <= value < _END_OF_TIME else None


def _read(kind: type[D], text: str | bytes | None) -> D | None:
    try:
        return kind.model_validate_json(text) if text else None
    except ValidationError:
        return None


class JobStore(Protocol):
    """Each accepted job reaches exactly one terminal state, whatever dies on the way.

    A lease is kept by beating, not by timestamps: who wants to take a job over watches that its beat has not moved for
    the lease time *on its own monotonic clock*, so a wall clock that jumps neither loses a job nor runs one twice.

    All methods raise JobStoreUnavailable when the store does not answer.
    """

    def create(
        self, model: str, request: GenerationRequest, *, tenant: str, idempotency: Idempotency | None
    ) -> Accepted:
        """Accept a request, durably. The same idempotency key with the same fingerprint gives the first job again.

        Keys are unique per tenant. A write whose answer was lost is looked for before it is given up or made again, so
        that one call makes one job at most. Raises: IdempotencyKeyReused (another fingerprint), Overloaded (the queue
        is full), RateLimited (the tenant's share of it is).
        """

    def get(self, job_id: str, *, tenant: str) -> Job:
        """Raises JobNotFound, also for another tenant's job."""

    def page(self, tenant: str, *, status: JobStatus | None = None, before: int | None = None, limit: int = 20) -> Page:
        """At most `limit` of a tenant's jobs, of one status or of all, from before `before` (of the page that was)."""

    def ahead(self, job: Job) -> int | None:
        """How many jobs of its model are begun before this queued one, as it looks now; None where that is unknown."""

    def forget(self, job_id: str, *, tenant: str) -> None:
        """Remove a finished job for good. Raises: JobNotFound, also for another tenant's; JobUnfinished."""

    def claim(self, worker: str, *, models: Collection[str], but_not_of: Collection[str] = ()) -> Lease | None:
        """The queued job of these models whose turn it is, or a running one whose holder has stopped beating; None
        where there is nothing. With `but_not_of` only a queued job, of no tenant among these.

        A job that was claimed `max_attempts` times and never finished is failed as `poisoned` instead.
        """

    def beat(self, lease: Lease, progress: Progress) -> bool:
        """Keep the lease and record progress; False when the job was cancelled, finished or taken over."""

    def succeed(self, lease: Lease, result: GenerationResult) -> bool:
        """False (and nothing written) when the lease is no longer held."""

    def fail(self, lease: Lease, problem: Problem) -> bool:
        """False (and nothing written) when the lease is no longer held."""

    def release(self, lease: Lease, *, counts_as_attempt: bool) -> bool:
        """Put the job back into the queue (the runtime was full, or is shutting down)."""

    def cancel(self, job_id: str, *, tenant: str) -> Job:
        """End a queued or running job as `cancelled`. Raises JobNotFound, JobFinished."""

    # A service that runs jobs by itself (SageMaker) holds no lease; who hears from it does this.

    def find(self, job_id: str) -> Job:
        """Any tenant's job. Raises JobNotFound."""

    def settle(self, job_id: str, ended: GenerationResult | Problem) -> bool:
        """End a job, whoever works on it: False (and nothing written) when it has ended already. Raises JobNotFound."""

    def record_attempts(self, job_id: str, attempts: int, *, was: int) -> bool:
        """Count an attempt before it is sent, so that of several who would send it one does: False (and nothing
        written) when the job has ended, or its attempts are not what they were. Raises JobNotFound."""

    def overdue(self, *, accepted_before: float) -> list[Job]:
        """Every job that was accepted before this epoch time and has not ended."""

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs there are in each status."""

    def purge(self, *, finished_before: float) -> int:
        """Forget finished jobs older than this epoch time; returns how many."""

    def close(self) -> None:
        """Let go of the store's connections; they are opened again if it is used again."""
