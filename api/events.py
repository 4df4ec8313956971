"""Server-sent events about a job: `progress` while it runs, one `finished` with the job itself at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

from api.schemas.jobs import JobDocument
from api.waiting import News
from darkroom.contracts import Job, Progress

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
STREAM_HEADERS = {**HEADERS, "X-Accel-Buffering": "no"}  # proxies pass each event on at once
_KEEP_ALIVE = ": keep-alive\n\n"
_RETRY_MILLISECONDS = 1000


def snapshot(job: JobDocument) -> str:
    """All there is to say at this moment. `retry` makes an EventSource whose stream ends here come back for more."""
    return f"retry: {_RETRY_MILLISECONDS}\n\n" + (_finished(job) if job.status.finished else _progress(job.progress))


async def stream(
    first: str, news: AsyncIterator[News | Job | None], document: Callable[[Job], Awaitable[JobDocument]]
) -> AsyncIterator[str]:
    """The snapshot, then what `news` brings (see `waiting.Follow`)."""
    yield first
    async for latest in news:
        if isinstance(latest, Job):
            yield _finished(await document(latest))
        elif latest is None or latest.progress is None:
            yield _KEEP_ALIVE
        else:
            yield _progress(latest.progress, latest.preview)


def _progress(progress: Progress, preview: str | None = None) -> str:
    return _event("progress", json.dumps({**progress.model_dump(), "preview": preview}, separators=(",", ":")))


def _finished(job: JobDocument) -> str:
    """The job as `GET /v1/jobs/{id}` tells it; the stream ends after it."""
    return _event("finished", job.model_dump_json(exclude_none=True))


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"
