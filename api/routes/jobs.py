"""`/v1/jobs`: the caller's jobs; one as it is, its events, its end."""

from __future__ import annotations

import re

from starlette.responses import Response, StreamingResponse

from api import events as server_sent
from api.answers import answer
from api.call import Call
from darkroom.contracts import Job, JobStatus
from darkroom.errors import InvalidParameter, JobFinished, OutOfRange
from darkroom.images import finished

_CURSOR = re.compile(r"[1-9]\d{0,17}")
_LIMIT = re.compile(r"\d{1,3}")
_MOST, _USUAL = 100, 20


def page(call: Call) -> Response:
    """GET /v1/jobs: newest first. Raises: InvalidParameter, OutOfRange, JobStoreUnavailable."""
    from api.schemas.jobs import JobList

    asked = call.query
    if unknown := next((name for name in asked if name not in ("status", "cursor", "limit")), None):
        raise InvalidParameter("A list takes status, cursor and limit.", field=f"/{unknown[:100]}")
    status, cursor, limit = asked.get("status"), asked.get("cursor"), asked.get("limit", str(_USUAL))
    if status is not None and status not in list(JobStatus):
        raise InvalidParameter(f"status is one of {', '.join(JobStatus)}.", field="/status")
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise InvalidParameter("cursor is what the page before said as next.", field="/cursor")
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= _MOST:
        raise OutOfRange(f"limit must lie between 1 and {_MOST}.", field="/limit")
    found = call.services.jobs.page(
        call.tenant,
        status=None if status is None else JobStatus(status),
        before=None if cursor is None else int(cursor),
        limit=int(limit),
    )
    documents = [call.answers.document(job) for job in found.jobs]
    return answer(200, JobList(jobs=documents, next=None if found.next is None else str(found.next)))


def get(call: Call) -> Response:
    """GET /v1/jobs/{id}"""
    job = _job(call)
    ahead = call.services.jobs.ahead(job) if job.status is JobStatus.QUEUED else None
    return call.answers.job(job, ahead)


def cancel(call: Call) -> Response:
    """POST /v1/jobs/{id}/cancel: one that has finished loses nothing. Raises: JobNotFound, JobFinished."""
    job = call.services.jobs.cancel(call.params["id"], tenant=call.tenant)
    call.services.inference.withdraw(job)
    return call.answers.cancelled(job)


def delete(call: Call) -> Response:
    """DELETE /v1/jobs/{id}: one that has not finished is cancelled, any other forgotten with its images."""
    try:
        return cancel(call)
    except JobFinished:
        job_id = call.params["id"]
        finished.forget(call.services.store, job_id)  # the job is last: what is cut off here can be done again
        call.services.jobs.forget(job_id, tenant=call.tenant)
        return Response(status_code=204)


async def events(call: Call) -> Response:
    """GET /v1/jobs/{id}/events: every step as it is made; the state at this moment where answers are no streams."""
    run, follow = call.services.run, call.services.follow
    job, seen = await run(_job, call), server_sent.last_seen(call.headers)
    snapshot = server_sent.snapshot(await run(call.answers.document, job), seen)
    if job.status.finished or follow is None or call.method == "HEAD":
        return Response(snapshot, headers=server_sent.HEADERS)
    stream = server_sent.stream(
        snapshot, job.progress.step, seen, follow(job), lambda ended: run(call.answers.document, ended)
    )
    return StreamingResponse(stream, headers=server_sent.STREAM_HEADERS)


def _job(call: Call) -> Job:
    """Raises: JobNotFound."""
    return call.services.jobs.get(call.params["id"], tenant=call.tenant)
