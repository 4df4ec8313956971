"""Server-sent events about a job: `progress` while it runs, one `finished` with the job itself at the end.

An event's id is the step that it tells of, so that who comes back with `Last-Event-ID` hears of nothing twice. A job
that is begun again elsewhere starts at its first step: until it is where it was, nothing is told of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from api.schemas.jobs import JobDocument
from api.waiting import News
from darkroom.contracts import Job, Progress
from darkroom.server_sent_events import KEEP_ALIVE, MEDIA_TYPE, event

HEADERS = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
STREAM_HEADERS = {**HEADERS, "X-Accel-Buffering": "no"}  # proxies pass each event on at once
_RETRY_MILLISECONDS = 1000
_STEP = re.compile(r"\d{1,9}")


def last_seen(headers: Mapping[str, str]) -> int:
    """The step that the caller has heard of; -1 for none."""
    seen = headers.get("last-event-id", "")
    return int(seen) if _STEP.fullmatch(seen) else -1


def snapshot(job: JobDocument, seen: int = -1) -> str:
    """All there is to say at this moment. `retry` makes an EventSource whose stream ends here come back for more."""
    if job.status.finished:
        return _finished(job)
    if job.progress.step <= seen:
        return KEEP_ALIVE  # an EventSource that comes back knows `retry`; outside an event clients misread it
    return _progress(job.progress, retry_milliseconds=_RETRY_MILLISECONDS)


async def stream(
    first: str,
    shown: int,
    seen: int,
    news: AsyncIterator[News | Job | None],
    document: Callable[[Job], Awaitable[JobDocument]],
) -> AsyncIterator[str]:
    """The snapshot, which tells of the step `shown`, then what `news` brings (see `waiting.Follow`) after `seen`."""
    yield first
    async for latest in news:
        if isinstance(latest, Job):
            yield _finished(await document(latest))
        elif latest is None or latest.progress is None or latest.progress.step < max(shown, seen + 1):
            yield KEEP_ALIVE
        else:
            shown = latest.progress.step
            yield _progress(latest.progress, latest.preview)


def _progress(progress: Progress, preview: str | None = None, *, retry_milliseconds: int | None = None) -> str:
    data = json.dumps({**progress.model_dump(), "preview": preview}, separators=(",", ":"))
    return event("progress", data, id=progress.step, retry_milliseconds=retry_milliseconds)


def _finished(job: JobDocument) -> str:
    """The job as `GET /v1/jobs/{id}` tells it; the stream ends after it."""
    data = job.model_dump_json(exclude_none=True)
    return event("finished", data, id=job.progress.step, retry_milliseconds=_RETRY_MILLISECONDS)
