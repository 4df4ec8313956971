"""A job, and the images that it came to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, Field

from api.schemas import Document
from darkroom.contracts import CacheReport, GenerationRequest, GenerationWarning, Job, JobStatus, Progress, Timings
from darkroom.errors import JobCancelled, Problem
from darkroom.storage import ObjectStore


class ImageAnswer(Document):
    """What a finished request came to. URLs are signed and expire; GET of the job signs new ones."""

    image: Annotated[str, Field(description="URL of the first image")]
    images: Annotated[list[str], Field(description="URLs of all images; image i was made from seed + i")]
    control_image: Annotated[str | None, Field(description="URL of what the ControlNet was shown")] = None
    control_images: Annotated[list[str] | None, Field(description="of several ControlNets, in the request's order")] = (
        None
    )
    id: Annotated[str, Field(description="the job, for GET /v1/jobs/{id}")]
    seed: int
    model: str
    version: str
    target: Annotated[str, Field(description="the engine that made it: format, precision, hardware")]
    again: Annotated[
        dict[str, int | str] | None,
        Field(
            description="what to add to the same request to get the same pictures; absent where one began from "
            "another picture, which only itself can repeat (`image: job:ID/0`, or GET /v1/images/ID-0)"
        ),
    ] = None
    timings: Annotated[Timings, Field(description="seconds")]
    cache: CacheReport
    warnings: list[GenerationWarning]
    request_id: str


class JobDocument(Document):
    """A job as it is. The members of an ImageAnswer are there once it has succeeded, `error` once it has failed."""

    id: str
    status: JobStatus
    model: str
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    progress: Progress
    request: Annotated[
        GenerationRequest | None,
        Field(description="with every default filled in, and the seed drawn; absent where it cannot be read"),
    ] = None
    position: Annotated[
        int | None, Field(description="of a queued job, its place among those of its model: 1 is begun next")
    ] = None
    request_id: str
    image: str | None = None
    images: list[str] | None = None
    control_image: str | None = None
    control_images: list[str] | None = None
    seed: int | None = None
    again: dict[str, int | str] | None = None
    version: str | None = None
    target: str | None = None
    timings: Timings | None = None
    cache: CacheReport | None = None
    warnings: list[GenerationWarning] | None = None
    error: Problem | None = None


class JobList(Document):
    """A page of the caller's own jobs, newest first."""

    jobs: list[JobDocument]
    next: Annotated[str | None, Field(description="`cursor` of the following page; absent on the last one")] = None


def image_answer(job: Job, store: ObjectStore, *, expires: int, request_id: str) -> ImageAnswer:
    """The answer of a succeeded job, its URLs signed for `expires` seconds."""
    result = job.result
    if result is None:
        raise ValueError("only a succeeded job has images")
    urls = [store.url(image.key, expires=expires) for image in result.images]
    shown = [store.url(image.key, expires=expires) for image in result.control_images]
    return ImageAnswer(
        id=job.id,
        image=urls[0],
        images=urls,
        control_image=shown[0] if shown else None,
        control_images=shown or None,
        seed=result.seed,
        again=None if result.cache.hit else {"seed": result.seed, "cache": "off"},
        model=result.model,
        version=result.version,
        target=result.target,
        timings=result.timings,
        cache=result.cache,
        warnings=result.warnings,
        request_id=request_id,
    )


def job_document(
    job: Job, store: ObjectStore, *, expires: int, request_id: str, deleted: bool = False, ahead: int | None = None
) -> JobDocument:
    """The job with, where it has succeeded, URLs signed for `expires` seconds; none where its images were `deleted`
    since. `ahead`: how many jobs are begun before it."""
    document = JobDocument(
        id=job.id,
        status=job.status,
        model=job.model,
        created_at=_utc(job.created_at),
        started_at=None if job.started_at is None else _utc(job.started_at),
        finished_at=None if job.finished_at is None else _utc(job.finished_at),
        progress=_progress_of(job),
        request=job.request and _shortened(job.request),
        position=None if ahead is None else ahead + 1,
        request_id=request_id,
    )
    if job.result is not None:
        answer = image_answer(job, store, expires=expires, request_id=request_id)
        told = {name: getattr(answer, name) for name in ImageAnswer.model_fields}
        if deleted:
            told |= dict.fromkeys(_URLS)
            told["warnings"] = [*answer.warnings, _DELETED]
        return document.model_copy(update=told)
    if job.status.finished:
        return document.model_copy(update={"error": problem_of(job)})
    return document


_URLS = ("image", "images", "control_image", "control_images")
_DELETED = GenerationWarning(code="images_deleted", detail="Its images were kept for as long as was promised.")


def _progress_of(job: Job) -> Progress:
    """All steps of a job that has succeeded, and how many there will be of one that has not begun."""
    asked = (job.request.num_inference_steps or 0) * job.request.num_images if job.request else 0
    steps = job.progress.steps or asked
    return Progress(step=steps if job.status is JobStatus.SUCCEEDED else job.progress.step, steps=steps)


def problem_of(job: Job) -> Problem:
    """Why a finished job has no image."""
    return JobCancelled().problem() if job.status is JobStatus.CANCELLED or job.error is None else job.error


def _shortened(request: GenerationRequest) -> GenerationRequest:
    """Without the bytes of images it brought: who asks for a job again and again need not be sent them each time."""

    def short(source: str) -> str:
        return f"{source.partition(',')[0]}," if source[:5].lower() == "data:" else source

    return request.with_sources(short)


def _utc(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
