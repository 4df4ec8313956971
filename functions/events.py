"""Server-sent events about a job: `progress` while it runs, one `finished` with the job itself at the end."""

from __future__ import annotations

import json

from darkroom.contracts import Progress
from functions.documents import JobDocument

EVENT_STREAM = "text/event-stream"
KEEP_ALIVE = ": keep-alive\n\n"
RETRY_MILLISECONDS = 1000


def progress(progress: Progress, preview: str | None = None) -> str:
    """`preview` is a data: URI of the image so far, where there is one."""
    return _event("progress", json.dumps({**progress.model_dump(), "preview": preview}, separators=(",", ":")))


def finished(job: JobDocument) -> str:
    """The job as `GET /v1/jobs/{id}` tells it; the stream ends after it."""
    return _event("finished", job.model_dump_json(exclude_none=True))


def snapshot(job: JobDocument) -> str:
    """All there is to say at this moment. `retry` makes an EventSource whose stream ends here come back for more."""
    return f"retry: {RETRY_MILLISECONDS}\n\n" + (finished(job) if job.status.finished else progress(job.progress))


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"
