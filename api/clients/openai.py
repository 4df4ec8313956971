"""OpenAI's images API: `/v1/images/generations`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from api import accepting, submission
from api.answers import answer
from api.call import Call
from api.clients import pictures
from api.clients.openai_schemas import ImageData, ImagesAnswer, ImagesRequest
from api.clients.sizes import nearest
from api.schemas.jobs import problem_of
from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import GenerationRequest, Job, OutputFormat

_CHANGE_NOTHING = ("quality", "style", "moderation")


@dataclass(frozen=True)
class _Asked:
    """What was asked for, as we understand it, and what is not as it was asked for."""

    request: GenerationRequest
    urls: bool
    warnings: tuple[str, ...]


async def generations(call: Call) -> Response:
    """POST /v1/images/generations: the images themselves, never a promise of them."""
    services = call.services
    asked, job = await _accepted(call)
    await call.forget_body()
    if not job.status.finished:
        kept = "idempotency-key" in call.headers
        (job,) = await accepting.waited_for(call, [job], services.settings.max_wait_seconds, kept=kept)
    if not job.status.finished:
        raise pictures.still_at_work(job)
    if job.result is None:
        return call.answers.problem(problem_of(job))
    return answer(200, await services.run(_answer, call, asked, job))


async def _accepted(call: Call) -> tuple[_Asked, Job]:
    requested = await call.services.turns.take(call.tenant, submission.document, ImagesRequest, call.body, call.headers)
    return await call.services.run(_created, call, requested)


def _created(call: Call, requested: ImagesRequest) -> tuple[_Asked, Job]:
    manifest = call.manifest_of(requested.model or "m")
    asked = _understood(requested, manifest)
    return asked, accepting.accepted(call, manifest, asked.request).job


def _understood(requested: ImagesRequest, manifest: EngineManifest) -> _Asked:
    warnings = [f"{name} changes nothing here." for name in _CHANGE_NOTHING if getattr(requested, name) is not None]
    width = height = None
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
    )
    return _Asked(request, requested.response_format == "url", tuple(warnings))


def _answer(call: Call, asked: _Asked, job: Job) -> ImagesAnswer:
    """Raises: ValueError for a job without a result; ObjectNotFound, StorageUnavailable."""
    result = job.result
    if result is None:
        raise ValueError("only a succeeded job has images")

    def shown(key: str) -> ImageData:
        if asked.urls:
            return ImageData(url=call.services.store.url(key, expires=call.services.settings.image_url_seconds))
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
