"""A job finished or failed: SageMaker's notifications, and the sweep for those that never came, close jobs."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api import services
from darkroom.contracts import GenerationResult, Job
from darkroom.errors import (
    DarkroomError,
    DeadlineExceeded,
    JobNotFound,
    ObjectNotFound,
    Problem,
    RuntimeUnavailable,
    Unreadable,
)
from darkroom.inference.disposition import ends
from darkroom.inference.sagemaker import SageMakerAsync
from darkroom.inference.spool import Spool, attempt_of
from darkroom.jobs import JobStore
from darkroom.settings import Settings
from functions.observability import count, flush, logger, traced

GRACE_SECONDS = 120.0  # after a job's deadline, for the notification to come first


@dataclass(frozen=True)
class Notification:
    """One message of the success or the error topic; `output` is the S3 address of a result."""

    job_id: str
    attempt: int
    succeeded: bool
    reason: str = ""
    output: str = ""


@dataclass(frozen=True)
class Closing:
    """What closing jobs needs. `wall` gives seconds since the epoch."""

    jobs: JobStore
    spool: Spool
    inference: SageMakerAsync
    job_seconds: float
    max_attempts: int
    wall: Callable[[], float] = time.time


@traced
def lambda_handler(event: Mapping[str, Any], _context: object, *, wired: Closing | None = None) -> dict[str, int]:
    """Close the jobs that SNS tells of or, for an event that carries no records, those that are overdue.

    How many of them `succeeded`, `failed`, were sent `again`, came `late` (the job had ended), were `repeated` (the
    next attempt had begun) or `ignored` (nobody's job, or no message of ours: no retry would help). Raises:
    DarkroomError where another try may help; all other records are done by then, and doing them again changes nothing.
    """
    wired = wired or from_environment()
    outcomes: dict[str, int] = {}
    failure: DarkroomError | None = None
    try:
        for close in _closings(event, wired):
            try:
                outcome = close()
            except DarkroomError as error:
                logger.error("job not closed", exc_info=error)
                failure = error
                continue
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            count(f"JobEvents.{outcome}")
    finally:
        flush()
    if failure is not None:
        raise failure
    return outcomes


@functools.cache
def from_environment() -> Closing:
    """What this Lambda function reaches."""
    settings = Settings.read()
    inference, spool = services.asynchronous(settings)
    return Closing(services.open_job_store(settings), spool, inference, settings.job_seconds, settings.max_attempts)


def _closings(event: Mapping[str, Any], wired: Closing) -> list[Callable[[], str]]:
    if "Records" in event:
        messages = [read(record) for record in event["Records"]]
        return [functools.partial(close, message, wired) if message else (lambda: "ignored") for message in messages]
    before = wired.wall() - wired.job_seconds - GRACE_SECONDS
    return [functools.partial(close_overdue, job, wired) for job in wired.jobs.overdue(accepted_before=before)]


def read(record: Mapping[str, Any]) -> Notification | None:
    """The notification in an SNS record; None, and a line in the log, where it is no message about a job of ours."""
    try:
        message = json.loads(record["Sns"]["Message"])
        attempt = attempt_of(message["inferenceId"])
        if attempt is not None:
            succeeded = message["invocationStatus"] == "Completed"
            return Notification(*attempt, succeeded, str(message.get("failureReason", "")), _output(message))
    except (KeyError, TypeError, ValueError):
        pass
    logger.warning("a message that is about no job", message_id=record.get("Sns", {}).get("MessageId"))
    return None


def _output(message: Mapping[str, Any]) -> str:
    told = message.get("responseParameters")
    place = told.get("outputLocation") if isinstance(told, dict) else None
    return place if isinstance(place, str) else ""


def close(notification: Notification, wired: Closing) -> str:
    """End the job, or send it again where the failure is worth another attempt.

    Raises: JobStoreUnavailable, StorageUnavailable, ObjectNotFound (the news came before the object), or what sending
    raises.
    """
    try:
        job = wired.jobs.find(notification.job_id)
    except JobNotFound:
        logger.warning("a job that nobody knows", job_id=notification.job_id)
        return "ignored"
    if job.status.finished:
        return "late"
    error: DarkroomError
    if notification.succeeded:
        try:
            result = wired.spool.result(job.id, attempt=notification.attempt, address=notification.output)
            return _settle(job, result, wired)
        except RuntimeUnavailable as unreadable:
            error = unreadable
    else:
        error = wired.spool.failure(job.id, notification.reason, attempt=notification.attempt)
    final = ends(error, notification.attempt, wired.max_attempts)
    if final is not None:
        return _settle(job, final.problem(), wired)
    return _send_again(job, notification.attempt + 1, error, wired)


def _send_again(job: Job, attempt: int, error: DarkroomError, wired: Closing) -> str:
    """Counted first and sent then: of notifications that say the same, one starts the attempt."""
    if job.attempts >= attempt or not wired.jobs.record_attempts(job.id, attempt, was=job.attempts):
        return "repeated"
    try:
        wired.inference.send(job, attempt=attempt)
    except (DeadlineExceeded, Unreadable) as final:
        return _settle(job, final.problem(), wired)
    except DarkroomError:
        wired.jobs.record_attempts(job.id, job.attempts, was=attempt)  # for the notification that SNS delivers again
        raise
    logger.info("sent again", job_id=job.id, attempt=attempt, code=error.code)
    return "again"


def close_overdue(job: Job, wired: Closing) -> str:
    """End a job whose notification was lost, or that never began. Raises: JobStoreUnavailable, StorageUnavailable."""
    for attempt in range(max(1, job.attempts), 0, -1):
        try:
            return _settle(job, wired.spool.result(job.id, attempt=attempt), wired)
        except (ObjectNotFound, RuntimeUnavailable):
            continue
    return _settle(job, DeadlineExceeded().problem(), wired)


def _settle(job: Job, ended: GenerationResult | Problem, wired: Closing) -> str:
    succeeded = isinstance(ended, GenerationResult)
    try:
        settled = wired.jobs.settle(job.id, ended)
    except JobNotFound:  # purged meanwhile
        return "ignored"
    if not settled:
        return "late"
    code = None if isinstance(ended, GenerationResult) else ended.code
    logger.info("job closed", job_id=job.id, tenant=job.tenant, model=job.model, succeeded=succeeded, code=code)
    return "succeeded" if succeeded else "failed"
