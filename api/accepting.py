"""A request becomes a job, which its caller may wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from api import submission
from api.call import Call, ClientGone
from api.images import finished, uploads
from api.services import Services
from api.waiting import first
from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import GenerationRequest, Job
from darkroom.errors import DarkroomError, JobFinished, JobStoreUnavailable
from darkroom.jobs import Accepted
from darkroom.resolving import resolve


def accepted(
    call: Call, manifest: EngineManifest, requested: GenerationRequest, files: Mapping[str, bytes] = uploads.NO_FILES
) -> Accepted:
    """The job of a request, handed over to whoever makes its images; nothing of one that is refused is kept.

    `files` are images that came along, by the `upload:` reference that the request has for each.
    Raises: what `resolve`, `finished.taken`, `uploads.without_data`, `JobStore.create` and `Inference.submit`
    raise.
    """
    services, tenant = call.services, call.tenant
    idempotency = submission.idempotency_of(call.headers, manifest.model, requested, files)
    request, found = finished.taken(services.jobs, call.store, resolve(requested, manifest), tenant)
    stored = uploads.without_data(request, tenant, services.store, services.quota, {**files, **found})
    try:
        job = services.jobs.create(manifest.model, stored.request, tenant=tenant, idempotency=idempotency)
        if not job.replayed:
            services.count("JobsAccepted")
            return Accepted(_handed_over(services, job.job), replayed=False)
    except DarkroomError:
        stored.forget(tenant, services.store, services.quota)
        raise
    stored.forget(tenant, services.store, services.quota)  # the first request's are kept
    return job


def _handed_over(services: Services, job: Job) -> Job:
    try:
        return services.inference.submit(job)
    except DarkroomError as error:  # nobody works on it, so nobody else will end it
        services.jobs.settle(job.id, error.problem())
        raise


async def waited_for(call: Call, jobs: Sequence[Job], seconds: float, *, kept: bool) -> list[Job]:
    """The jobs as they are when all have finished or the caller's patience is over.

    A caller who goes away takes them along, unless they are `kept`: they asked for a job, or left a key to come back
    with. Raises: ClientGone.
    """

    async def ended() -> list[Job]:
        clock, left, seen = asyncio.get_running_loop().time, seconds, []
        for job in jobs:
            began = clock()
            seen.append(job if job.status.finished else await call.services.wait(job, left))
            left = max(0.0, left - (clock() - began))
        return seen

    finished = await first(ended(), call.gone())
    if finished is not None:
        return finished
    if not kept:
        await call.services.run(cancel, call.services, jobs)
    raise ClientGone


def cancel(services: Services, jobs: Sequence[Job]) -> None:
    """Those that have not finished; nobody waits for them any more."""
    for job in jobs:
        with contextlib.suppress(JobFinished, JobStoreUnavailable):
            services.inference.withdraw(services.jobs.cancel(job.id, tenant=job.tenant))
