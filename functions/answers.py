"""A job -> what its caller is told. The handler in Lambda and the edge of one machine both build every answer here."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from darkroom.contracts import Job
from darkroom.errors import DarkroomError, Problem
from darkroom.settings import Settings
from darkroom.storage import ObjectStore
from functions.documents import JobDocument, image_answer, job_document, problem_of
from functions.submission import Preference

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
_RETRY_SECONDS = 2  # where an error that a retry may help does not know better
_TRY_LATER = (429, 503)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; the document becomes JSON without its empty members."""

    status: int
    document: BaseModel
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON

    def body(self) -> str:
        return self.document.model_dump_json(exclude_none=True, by_alias=True)


@dataclass(frozen=True)
class Answers:
    """Builds the answers to one request."""

    store: ObjectStore
    settings: Settings
    request_id: str

    def predicted(self, job: Job, preference: Preference) -> Answer:
        """200 with the image, the job's own problem, or 202 where it has not finished."""
        applied = {"Preference-Applied": preference.applied} if preference.applied else {}
        if job.result is not None:
            expires = self.settings.image_url_seconds
            document = image_answer(job, self.store, expires=expires, request_id=self.request_id)
            return Answer(200, document, {**applied, "Location": job_path(job)})
        if job.status.finished:
            return self.problem(problem_of(job))
        return Answer(202, self.document(job), {**applied, "Location": job_path(job), "Retry-After": "1"})

    def job(self, job: Job) -> Answer:
        """The job as it is; a finished one with freshly signed URLs."""
        return Answer(200, self.document(job), {} if job.status.finished else {"Retry-After": "1"})

    def cancelled(self, job: Job) -> Answer:
        return Answer(202, self.document(job), {"Location": job_path(job)})

    def problem(self, problem: Problem | DarkroomError, headers: dict[str, str] | None = None) -> Answer:
        """An RFC 9457 answer that names this request."""
        told = problem.problem() if isinstance(problem, DarkroomError) else problem
        told = told.model_copy(update={"request_id": self.request_id})
        headers = dict(headers or {})
        if told.retry_after is not None or told.status in _TRY_LATER:
            headers["Retry-After"] = str(told.retry_after or _RETRY_SECONDS)
        if told.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Answer(told.status, told, headers, PROBLEM_JSON)

    def document(self, job: Job) -> JobDocument:
        """What `GET /v1/jobs/{id}` tells, and the events that end a stream."""
        return job_document(job, self.store, expires=self.settings.image_url_seconds, request_id=self.request_id)


def job_path(job: Job) -> str:
    return f"/v1/jobs/{job.id}"
