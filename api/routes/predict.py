"""`:predict`: a request becomes a job, which its caller may wait for."""

from __future__ import annotations

import contextlib

from starlette.responses import Response

from api import submission, uploads
from api.answers import job_path
from api.call import Call, ClientGone
from api.services import Services
from api.submission import Preference
from api.waiting import first
from darkroom.contracts import GenerationRequest, Job
from darkroom.errors import DarkroomError, IdempotencyInProgress, JobFinished, JobStoreUnavailable
from darkroom.jobs import Accepted
from darkroom.parsing import parse_request
from darkroom.resolving import resolve


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
    await call.forget_body()
    job = accepted.job
    if accepted.replayed and not job.status.finished:
        problem = IdempotencyInProgress("Ask again, or follow the job at Location.", retry_after=1)
        return call.answers.problem(problem, {"Location": job_path(job)})
    if not job.status.finished and preference.wait > 0:
        job = await _waited_for(call, job, preference)
    return await services.run(call.answers.predicted, job, preference)


async def _accepted(call: Call, *, curl_default: bool) -> Accepted:
    """Nothing of the images that came along is held any more once it returns."""
    requested = await call.services.turns.take(call.tenant, _requested, call, curl_default=curl_default)
    return await call.services.run(_created, call, requested)


def _requested(call: Call, *, curl_default: bool) -> GenerationRequest:
    return parse_request(submission.json_body(call.body, call.headers, curl_default=curl_default))


def _created(call: Call, requested: GenerationRequest) -> Accepted:
    services, tenant = call.services, call.tenant
    manifest = call.manifest()
    idempotency = submission.idempotency_of(call.headers, manifest.model, requested)
    stored = uploads.without_data(resolve(requested, manifest), tenant, services.store, services.quota)
    try:
        accepted = services.jobs.create(manifest.model, stored.request, tenant=tenant, idempotency=idempotency)
        if not accepted.replayed:
            services.count("JobsAccepted")
            return Accepted(_handed_over(services, accepted.job), replayed=False)
    except DarkroomError:
        stored.forget(tenant, services.store, services.quota)
        raise
    stored.forget(tenant, services.store, services.quota)  # the first request's are kept
    return accepted


def _handed_over(services: Services, job: Job) -> Job:
    try:
        return services.inference.submit(job)
    except DarkroomError as error:  # nobody works on it, so nobody else will end it
        services.jobs.settle(job.id, error.problem())
        raise


async def _waited_for(call: Call, job: Job, preference: Preference) -> Job:
    """The job as it is when it has finished or the caller's patience is over.

    A caller who goes away takes the job along, unless they asked for a job (`respond-async`) or left a key to come
    back with (`Idempotency-Key`). Raises: ClientGone.
    """
    ended = await first(call.services.wait(job, preference.wait), call.gone())
    if ended is not None:
        return ended
    if not preference.respond_async and "idempotency-key" not in call.headers:
        with contextlib.suppress(JobFinished, JobStoreUnavailable):
            await call.services.run(_cancel, call.services, job)
    raise ClientGone


def _cancel(services: Services, job: Job) -> None:
    services.inference.withdraw(services.jobs.cancel(job.id, tenant=job.tenant))
