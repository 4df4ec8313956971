"""`/v1/jobs/{id}`: a job as it is, its events, its end."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse

from api import events as server_sent
from api.call import Call
from darkroom.contracts import Job


def get(call: Call) -> Response:
    """GET /v1/jobs/{id}"""
    return call.answers.job(_job(call))


def cancel(call: Call) -> Response:
    """DELETE /v1/jobs/{id}"""
    job = call.services.jobs.cancel(call.params["id"], tenant=call.tenant)
    call.services.inference.withdraw(job)
    return call.answers.cancelled(job)


async def events(call: Call) -> Response:
    """GET /v1/jobs/{id}/events: every step as it is made; the state at this moment where answers are no streams."""
    run, follow = call.services.run, call.services.follow
    job = await run(_job, call)
    snapshot = server_sent.snapshot(await run(call.answers.document, job))
    if job.status.finished or follow is None or call.method == "HEAD":
        return Response(snapshot, headers=server_sent.HEADERS)
    stream = server_sent.stream(snapshot, follow(job), lambda ended: run(call.answers.document, ended))
    return StreamingResponse(stream, headers=server_sent.STREAM_HEADERS)


def _job(call: Call) -> Job:
    """Raises: JobNotFound."""
    return call.services.jobs.get(call.params["id"], tenant=call.tenant)
