"""Server-sent events about a job: `progress` while it runs, one `finished` with the job itself at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

from api.schemas.jobs import JobDocument
from api.waiting import News
from darkroom.contracts import Job, Progress
from darkroom.server_sent_events import KEEP_ALIVE, MEDIA_TYPE, event

HEADERS = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
STREAM_HEADERS = {**HEADERS, "X-Accel-Buffering": "no"}  # proxies pass each event on at once
_RETRY_MILLISECONDS = 1000


def snapshot(job: JobDocument) -> str:
    """All there is to say at this moment. `retry` makes an EventSource whose stream ends here come back for more."""
    if job.status.finished:
        return _finished(job, retry_milliseconds=_RETRY_MILLISECONDS)
    return _progress(job.progress, retry_milliseconds=_RETRY_MILLISECONDS)


async def stream(
    first: str, news: AsyncIterator[News | Job | None], document: Callable[[Job], Awaitable[JobDocument]]
) -> AsyncIterator[str]:
    """The snapshot, then what `news` brings (see `waiting.Follow`)."""
    yield first
    async for latest in news:
        if isinstance(latest, Job):
            yield _finished(await document(latest))
        elif latest is None or latest.progress is None:
            yield KEEP_ALIVE
        else:
            yield _progress(latest.progress, latest.preview)


def _progress(progress: Progress, preview: str | None = None, *, retry_milliseconds: int | None = None) -> str:
    data = json.dumps({**progress.model_dump(), "preview": preview}, separators=(",", ":"))
    return event("progress", data, retry_milliseconds=retry_milliseconds)


def _finished(job: JobDocument, *, retry_milliseconds: int | None = None) -> str:
    """The job as `GET /v1/jobs/{id}` tells it; the stream ends after it."""
    return event("finished", job.model_dump_json(exclude_none=True), retry_milliseconds=retry_milliseconds)
