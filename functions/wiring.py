"""What the handlers call, built from the environment once a process and lazily: imports cost cold start."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom import settings as configuration
from darkroom.contracts import Job
from darkroom.endpoints import Endpoints
from darkroom.inference import Inference, QueuedInference
from darkroom.jobs import JobStore, open_jobs
from darkroom.release import open_releases
from darkroom.release.storage import ReleaseStore
from darkroom.scaling.storage import PolicyStore, open_policies
from darkroom.settings import Settings
from darkroom.storage import ObjectStore, open_store
from functions import callers
from functions.callers import Tenant
from functions.documents import Health
from functions.manifests import Manifests

if TYPE_CHECKING:
    from darkroom.inference.sagemaker import SageMakerAsync
    from darkroom.inference.spool import Spool

Wait = Callable[[Job, float], Job]  # (job, seconds) -> the job as it is when it has finished or the time is over
FIRST_PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 0.05, 1.5, 0.5  # seconds between two looks at a running job


@dataclass(frozen=True)
class Wiring:
    """Everything a handler reaches; `store` holds the images, `releases` is None where no endpoint is released to.

    `wait` blocks where a process serves one event (Lambda) and returns at once where the edge does the waiting (one
    machine, see docs/decisions/003-the-edge-waits.md)."""

    settings: Settings
    store: ObjectStore
    jobs: JobStore
    policies: PolicyStore
    inference: Inference
    manifests: Manifests
    wait: Wait
    health: Callable[[], Health] = lambda: Health(status="ready")
    releases: ReleaseStore | None = None

    @functools.cached_property
    def tenant(self) -> Tenant:
        """Who sent an event, as `settings.access` finds out."""
        return callers.opened(self.settings)


@functools.cache
def from_environment() -> Wiring:
    """The wiring of this Lambda function."""
    settings = configuration.load()
    key = settings.signing_key.encode()
    bundles = open_store(settings.store_url, public_url=settings.public_url, signing_key=key)
    images = open_store(settings.images_store, public_url=settings.public_url, signing_key=key)
    jobs = open_job_store(settings)
    policies = open_policies(settings.policies_store)
    manifests = Manifests(bundles, served=settings.endpoint_by_model() or None)
    return Wiring(
        settings,
        images,
        jobs,
        policies,
        inference(settings, jobs),
        manifests,
        polling(jobs),
        releases=open_releases(settings.policies_store) if settings.endpoints else None,
    )


def open_job_store(settings: Settings) -> JobStore:
    return open_jobs(
        settings.jobs_url,
        max_queued=settings.max_queued_jobs,
        max_attempts=settings.max_attempts,
        lease_seconds=settings.lease_seconds,
        keep_seconds=settings.job_days * 86_400,
    )


def inference(settings: Settings, jobs: JobStore) -> Inference:
    """What the API hands jobs to: the SageMaker endpoints of the settings, or workers who claim from the job store."""
    if not settings.endpoints:
        return QueuedInference()
    if settings.endpoint_type == "async":
        return asynchronous(settings)[0]
    from darkroom.inference.sagemaker import SageMakerRealTime

    endpoints, seconds = Endpoints(settings.endpoint_by_model()), settings.max_wait_seconds
    return SageMakerRealTime(endpoints, jobs, seconds=seconds, attempts=settings.max_attempts)


def asynchronous(settings: Settings) -> tuple[SageMakerAsync, Spool]:
    """The asynchronous endpoints, and where their requests and results lie."""
    from darkroom.inference.sagemaker import SageMakerAsync
    from darkroom.inference.spool import open_spool

    spool = open_spool(settings.async_url)
    endpoints = Endpoints(settings.endpoint_by_model())
    return SageMakerAsync(endpoints, spool, job_seconds=settings.job_seconds), spool


def polling(
    jobs: JobStore, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Wait:
    """A wait that looks at the job store again and again, less often as time goes by."""

    def wait(job: Job, seconds: float) -> Job:
        until, pause = clock() + seconds, FIRST_PAUSE
        while not job.status.finished and (left := until - clock()) > 0:
            sleep(min(pause, left))
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE)
            job = jobs.get(job.id, tenant=job.tenant)
        return job

    return wait
