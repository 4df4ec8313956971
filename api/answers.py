"""A document -> the HTTP answer that carries it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.responses import Response

from api.schemas.jobs import JobDocument, image_answer, job_document, problem_of
from api.submission import Preference
from darkroom.contracts import Job
from darkroom.errors import DarkroomError, ImageNotFound, Problem
from darkroom.settings import Settings
from darkroom.storage import ObjectStore

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
_RETRY_SECONDS = 2  # where an error that a retry may help does not know better


def answer(
    status: int, document: BaseModel, headers: Mapping[str, str] | None = None, media_type: str = JSON
) -> Response:
    """The document as JSON, without its empty members."""
    return Response(document.model_dump_json(exclude_none=True, by_alias=True), status, headers, media_type)


@dataclass(frozen=True)
class Written:
    """An error as it is answered."""

    status: int
    document: BaseModel
    headers: Mapping[str, str]
    media_type: str


ProblemForm = Callable[[Problem], Written]


def rfc_9457(problem: Problem) -> Written:
    """Our own form."""
    return Written(problem.status, problem, {}, PROBLEM_JSON)


@dataclass(frozen=True)
class Answers:
    """Builds the answers to one request; `form` is how its caller reads errors."""

    store: ObjectStore
    settings: Settings
    request_id: str
    form: ProblemForm = rfc_9457

    def predicted(self, job: Job, preference: Preference) -> Response:
        """200 with the image, the job's own problem, or 202 where it has not finished."""
        headers = {"Preference-Applied": preference.applied} if preference.applied else {}
        if job.result is not None and self._deleted(job):
            return self.problem(ImageNotFound("The images of this job were kept for as long as was promised."))
        if job.result is not None:
            expires = self.settings.image_url_seconds
            document = image_answer(job, self.store, expires=expires, request_id=self.request_id)
            return answer(200, document, {**headers, "Location": job_path(job)})
        if job.status.finished:
            return self.problem(problem_of(job))
        return answer(202, self.document(job), {**headers, "Location": job_path(job), "Retry-After": "1"})

    def job(self, job: Job, ahead: int | None = None) -> Response:
        """The job as it is; a finished one with freshly signed URLs."""
        return answer(200, self.document(job, ahead), {} if job.status.finished else {"Retry-After": "1"})

    def cancelled(self, job: Job) -> Response:
        return answer(202, self.document(job), {"Location": job_path(job)})

    def problem(self, problem: Problem | DarkroomError, headers: Mapping[str, str] | None = None) -> Response:
        """An answer that names this request."""
        document = problem.problem() if isinstance(problem, DarkroomError) else problem
        document = document.model_copy(update={"request_id": self.request_id})
        headers = dict(headers or {})
        if document.retry_after is not None or document.status == 503:
            headers["Retry-After"] = str(document.retry_after or _RETRY_SECONDS)
        if document.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        written = self.form(document)
        return answer(written.status, written.document, {**headers, **written.headers}, written.media_type)

    def document(self, job: Job, ahead: int | None = None) -> JobDocument:
        """What `GET /v1/jobs/{id}` tells, and the events that end a stream; `ahead` jobs are begun before it."""
        expires, deleted = self.settings.image_url_seconds, self._deleted(job)
        return job_document(job, self.store, expires=expires, request_id=self.request_id, deleted=deleted, ahead=ahead)

    def _deleted(self, job: Job) -> bool:
        """Whether its images are older than they are kept."""
        days = self.settings.image_days
        return bool(days and job.finished_at is not None and job.finished_at < time.time() - days * 86_400)


def job_path(job: Job) -> str:
    return f"/v1/jobs/{job.id}"
