"""`:predict`: a request becomes a job, which its caller may wait for."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from api import accepting, submission
from api.answers import job_path
from api.call import Call
from darkroom.contracts import GenerationRequest
from darkroom.errors import IdempotencyInProgress
from darkroom.jobs import Accepted
from darkroom.parsing import parse_request


async def predict(call: Call) -> Response:
    """POST /v1/models/{model}:predict"""
    return await _predict(call, curl_default=False)


async def predict_as_the_seeds_do(call: Call) -> Response:
    """POST /tione/v1/models/m:predict"""
    return await _predict(call, curl_default=True)


async def _predict(call: Call, *, curl_default: bool) -> Response:
    services = call.services
    preference = submission.preference_of(call.headers, services.settings)
    accepted = await _accepted(call, curl_default=curl_default)
    if isinstance(accepted, Response):
        return accepted
    await call.forget_body()
    job = accepted.job
    if accepted.replayed and not job.status.finished:
        problem = IdempotencyInProgress("Ask again, or follow the job at Location.", retry_after=1)
        return call.answers.problem(problem, {"Location": job_path(job)})
    if not job.status.finished and preference.wait > 0:
        kept = preference.respond_async or "idempotency-key" in call.headers
        (job,) = await accepting.waited_for(call, [job], preference.wait, kept=kept)
    if job.result is not None and _wants_a_picture(call):
        from api.clients import pictures

        return await services.run(pictures.picture, call, job)
    return await services.run(call.answers.predicted, job, preference)


async def _accepted(call: Call, *, curl_default: bool) -> Accepted | Response:
    """Nothing of the images that came along is held any more once it returns. A body of another service's client is
    answered as that client reads it."""
    read = await call.services.turns.take(call.tenant, _read, call, curl_default=curl_default)
    if isinstance(read, GenerationRequest):
        return await call.services.run(_created, call, read)
    from api.clients import predict

    answering = predict.answered(call, read)
    del read  # it lets go of what is in it as soon as it can
    return await answering


def _read(call: Call, *, curl_default: bool) -> GenerationRequest | dict[str, Any]:
    value = submission.json_body(call.body, call.headers, curl_default=curl_default)
    if isinstance(value, dict) and ("instances" in value or "inputs" in value):
        return value
    request = parse_request(value)
    if not _wants_a_picture(call):
        return request
    from api.clients import pictures

    return pictures.alone(request, call.headers)


def _wants_a_picture(call: Call) -> bool:
    """Whether `Accept` asks for the image itself. Few do, so what reads it is imported then."""
    if "image/" not in call.headers.get("accept", "").lower():
        return False
    from api.clients import pictures

    return pictures.accepted_format(call.headers) is not None


def _created(call: Call, requested: GenerationRequest) -> Accepted:
    return accepting.accepted(call, call.manifest(), requested)
