"""OpenAI's images API: `/v1/images/generations` and `/v1/images/edits`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError
from starlette.responses import Response

from api import accepting, submission
from api.answers import answer
from api.call import Call
from api.clients import pictures
from api.clients.openai_schemas import EditsRequest, ImageData, ImagesAnswer, ImagesRequest
from api.schemas.jobs import problem_of
from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import GenerationRequest, Job, OutputFormat
from darkroom.errors import ImageTooLarge, InvalidParameter
from darkroom.image_use import DEFAULT_MASK_STRENGTH, DEFAULT_STRENGTH
from darkroom.images import uploads
from darkroom.parsing import from_validation
from darkroom.sizes import nearest

_CHANGE_NOTHING = ("quality", "style", "moderation", "input_fidelity")
_IMAGES = ("image", "image[]")


@dataclass(frozen=True)
class _Read:
    """What was asked for, and the files that came along by the `upload:` references that `image` and `mask` are."""

    requested: ImagesRequest
    image: str | None = None
    mask: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    """What was asked for, as we understand it, and what is not as it was asked for."""

    request: GenerationRequest
    urls: bool
    warnings: tuple[str, ...]


async def generations(call: Call) -> Response:
    """POST /v1/images/generations: the images themselves, never a promise of them."""
    return await _made(call, _generation)


async def edits(call: Call) -> Response:
    """POST /v1/images/edits: an image drawn again, with a mask where that is transparent."""
    return await _made(call, _edit)


async def _made(call: Call, read: Callable[[Call], _Read]) -> Response:
    services = call.services
    asked, job = await _accepted(call, read)
    await call.forget_body()
    if not job.status.finished:
        kept = "idempotency-key" in call.headers
        (job,) = await accepting.waited_for(call, [job], services.settings.max_wait_seconds, kept=kept)
    if not job.status.finished:
        raise pictures.still_at_work(job)
    if job.result is None:
        return call.answers.problem(problem_of(job))
    return answer(200, await services.run(_answer, call, asked, job))


async def _accepted(call: Call, read: Callable[[Call], _Read]) -> tuple[_Asked, Job]:
    """Nothing of the files that came along is held any more once it returns."""
    return await call.services.run(_created, call, await call.services.turns.take(call.tenant, read, call))


def _generation(call: Call) -> _Read:
    return _Read(submission.document(ImagesRequest, call.body, call.headers))


def _edit(call: Call) -> _Read:
    """Raises: InvalidParameter, ImageTooLarge; what `read_form` and `from_validation` raise."""
    from api.clients.forms import read_form

    texts, given = read_form(call.body, call.headers)
    if unknown := next((name for name in given if name not in (*_IMAGES, "mask")), None):
        raise InvalidParameter("Files are sent as image and mask.", field=f"/{unknown[:100]}")
    if misplaced := next((name for name in (*_IMAGES, "mask") if name in texts), None):
        raise InvalidParameter(f"{misplaced} must be a file.", field=f"/{misplaced}")
    images, masks = [file for name in _IMAGES for file in given.get(name, [])], given.get("mask", [])
    if len(images) != 1 or len(masks) > 1:
        raise InvalidParameter("Send one image, and one mask at most.", field="/image" if not masks[1:] else "/mask")
    if texts.get("stream", "").lower() == "false":
        del texts["stream"]
    try:
        requested = EditsRequest.model_validate(texts)
    except ValidationError as refused:
        raise from_validation(refused, EditsRequest.model_fields) from None
    most, files = call.services.settings.max_upload_bytes, {}
    for name, file in (("image", images[0]), *(("mask", mask) for mask in masks)):
        if len(file) > most:
            raise ImageTooLarge(f"An image may have at most {most} bytes.", field=f"/{name}")
        files[uploads.reference(uploads.new_id(time.time()))] = file
    image, mask, *_ = *files, None
    return _Read(requested, image, mask, files)


def _created(call: Call, read: _Read) -> tuple[_Asked, Job]:
    manifest = call.manifest_of(read.requested.model or "m")
    asked = _understood(read, manifest)
    return asked, accepting.accepted(call, manifest, asked.request, read.files).job


def _understood(read: _Read, manifest: EngineManifest) -> _Asked:
    requested = read.requested
    warnings = [
        f"{name} changes nothing here." for name in _CHANGE_NOTHING if getattr(requested, name, None) is not None
    ]
    width = height = strength = None
    if isinstance(requested, EditsRequest):
        strength = requested.strength or (DEFAULT_STRENGTH if read.mask is None else DEFAULT_MASK_STRENGTH)
    if requested.size not in (None, "auto"):
        wanted = [int(side) for side in str(requested.size).split("x")]
        native = manifest.defaults.width * manifest.defaults.height
        width, height = nearest(wanted[0], wanted[1], manifest.limits, native)
        if [width, height] != wanted:
            warnings.append(f"This model makes {width}x{height} instead of {requested.size}.")
    request = GenerationRequest(
        prompt=requested.prompt,
        negative_prompt=requested.negative_prompt,
        width=width,
        height=height,
        num_inference_steps=requested.num_inference_steps,
        guidance_scale=requested.guidance_scale,
        sampler=requested.sampler,
        seed=requested.seed,
        num_images=requested.n or 1,
        output_format=requested.output_format or OutputFormat.PNG,
        cache=requested.cache,
        image=read.image,
        mask=read.mask,
        strength=strength,
    )
    return _Asked(request, requested.response_format == "url", tuple(warnings))


def _answer(call: Call, asked: _Asked, job: Job) -> ImagesAnswer:
    """Raises: ValueError for a job without a result; ObjectNotFound, StorageUnavailable."""
    result = job.result
    if result is None:
        raise ValueError("only a succeeded job has images")

    def shown(key: str) -> ImageData:
        if asked.urls:
            return ImageData(url=call.store.url(key, expires=call.services.settings.image_url_seconds))
        return ImageData(b64_json=pictures.encoded(call, key))

    first = result.images[0]
    return ImagesAnswer(
        created=int(job.finished_at or job.created_at),
        data=[shown(image.key) for image in result.images],
        size=f"{first.width}x{first.height}",
        output_format=first.content_type.removeprefix("image/"),
        warnings=[*asked.warnings, *(warning.detail for warning in result.warnings)],
        id=job.id,
        seed=result.seed,
    )
