"""Finished images as bytes, for callers who want no URL."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from api.answers import job_path
from api.call import Call
from api.schemas import Document
from darkroom.contracts import GeneratedImage, GenerationRequest, Job, OutputFormat
from darkroom.errors import InvalidParameter, StillAtWork

_FORMATS = {form.content_type: form for form in OutputFormat}
_OTHERS = ("application/json", "application/*", "*/*")


class Prediction(Document):
    """One image; `bytesBase64Encoded` and `mimeType` are what Imagen's clients read."""

    bytes_base64: Annotated[str, Field(serialization_alias="bytesBase64Encoded", validation_alias="bytesBase64Encoded")]
    mime_type: Annotated[str, Field(serialization_alias="mimeType", validation_alias="mimeType")]
    image: Annotated[str, Field(description="URL of the same image")]
    id: Annotated[str, Field(description="the job, for GET /v1/jobs/{id}")]
    seed: int


class Predictions(Document):
    predictions: list[Prediction]


def accepted_format(headers: Mapping[str, str]) -> OutputFormat | None:
    """The format in which `Accept` asks for the image itself; None where it asks for a document, or for nothing."""
    for part in headers.get("accept", "").lower().split(","):
        media_type = part.partition(";")[0].strip()
        if media_type in _FORMATS:
            return _FORMATS[media_type]
        if media_type in _OTHERS:
            return None
    return None


def alone(request: GenerationRequest, headers: Mapping[str, str], field: str = "/num_images") -> GenerationRequest:
    """The request of a caller whose answer is an image: of the format that `Accept` asks for, if the request does not
    say. Raises: InvalidParameter."""
    if request.num_images > 1:
        raise InvalidParameter("The answer is one image; ask for a document to get several.", field=field)
    wanted = accepted_format(headers)
    if wanted is None or "output_format" in request.model_fields_set:
        return request
    return request.model_copy(update={"output_format": wanted})


def still_at_work(job: Job) -> StillAtWork:
    return StillAtWork(f"Job {job.id} is still at work; GET /v1/jobs/{job.id} tells when it has ended.")


def picture(call: Call, job: Job) -> Response:
    """The first image of a succeeded job. Raises: ObjectNotFound, StorageUnavailable."""
    first = _images(job)[0]
    headers = {"Location": job_path(job)}
    return Response(call.services.store.get(first.key), headers=headers, media_type=first.content_type)


def encoded(call: Call, key: str) -> str:
    """An image in base64. Raises: ObjectNotFound, StorageUnavailable."""
    return base64.b64encode(call.services.store.get(key)).decode()


def predictions(call: Call, jobs: list[Job]) -> Predictions:
    """Every image of succeeded jobs, in order. Raises: ObjectNotFound, StorageUnavailable."""
    store, seconds = call.store, call.services.settings.image_url_seconds
    made = [
        {
            "bytesBase64Encoded": encoded(call, image.key),
            "mimeType": image.content_type,
            "image": store.url(image.key, expires=seconds),
            "id": job.id,
            "seed": image.seed,
        }
        for job in jobs
        for image in _images(job)
    ]
    return Predictions(predictions=[Prediction.model_validate(one) for one in made])


def _images(job: Job) -> list[GeneratedImage]:
    if job.result is None:
        raise ValueError("only a succeeded job has images")
    return job.result.images
