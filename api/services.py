"""What the control plane calls, built from the environment by each deployment; nothing heavy is imported for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from api import callers
from api.at_work import AtWork
from api.blocking import Run, in_thread
from api.callers import Tenant
from api.limits.bodies import Bodies
from api.limits.origins import Origins
from api.limits.quota import UploadQuota
from api.limits.turns import Turns
from api.manifests import Manifests
from api.readiness import Readiness
from api.schemas.models import Health
from api.waiting import Follow, Wait, polling
from darkroom.endpoints import Endpoints
from darkroom.inference import Inference, QueuedInference
from darkroom.jobs import JobStore, open_jobs
from darkroom.release import open_releases
from darkroom.release.storage import ReleaseStore
from darkroom.scaling.storage import PolicyStore, open_policies
from darkroom.settings import Settings
from darkroom.storage import ObjectStore, open_store

if TYPE_CHECKING:
    from darkroom.inference.sagemaker import SageMakerAsync
    from darkroom.inference.spool import Spool

_BODIES_AT_ONCE = 32  # of the largest; the usual ones are a hundred times smaller


class Log(Protocol):
    """One event a line, with facts by name; structlog and powertools both have it."""

    @property
    def info(self) -> Callable[..., Any]: ...

    @property
    def error(self) -> Callable[..., Any]: ...


@dataclass(frozen=True, eq=False)
class Services:
    """Everything a route reaches; `store` holds the images, `releases` is None where no endpoint is released to.

    `wait` brings a job to its end or to the end of the caller's patience; `follow` tells every step of a job, and is
    None where an answer cannot be a stream. `draining` is asked before anything new is accepted. `origins` is None
    behind a gateway that knows its own names; `most_replicas`, where a fleet is somebody else's to bound. `store_at` is
    `store` with URLs below the address that a caller used, where this deployment has none of its own.
    """

    settings: Settings
    store: ObjectStore
    jobs: JobStore
    policies: PolicyStore
    inference: Inference
    manifests: Manifests
    wait: Wait
    log: Log
    follow: Follow | None = None
    health: Callable[[], Health] = lambda: Health(status="ready")
    releases: ReleaseStore | None = None
    draining: Callable[[], bool] = lambda: False
    run: Run = in_thread
    count: Callable[[str], None] = lambda _name: None
    origins: Origins | None = None
    most_replicas: Callable[[], int] | None = None
    store_at: Callable[[str], ObjectStore] | None = None

    @functools.cached_property
    def bodies(self) -> Bodies:
        """The memory of all request bodies."""
        return Bodies(_BODIES_AT_ONCE * self.settings.max_body_bytes)

    @functools.cached_property
    def quota(self) -> UploadQuota:
        """The bytes of each tenant's uploads."""
        return UploadQuota(self.store, self.settings.max_tenant_upload_bytes)

    @functools.cached_property
    def at_work(self) -> AtWork:
        """The jobs that callers of `progress` and `interrupt` mean."""
        return AtWork()

    @functools.cached_property
    def readiness(self) -> Readiness:
        """Whether the stores answer."""
        return Readiness(self.jobs, self.store, self.run)

    @functools.cached_property
    def turns(self) -> Turns:
        """Who computes when."""
        return Turns(self.run)

    @functools.cached_property
    def tenant(self) -> Tenant:
        """Who asks, as `settings.access` finds out."""
        return callers.opened(self.settings)


def from_environment(log: Log, *, run: Run = in_thread, count: Callable[[str], None] = lambda _name: None) -> Services:
    """The services that the environment describes, where nobody but the job store knows when a job has ended."""
    settings = Settings.read()
    key = settings.signing_key.encode()
    bundles = open_store(settings.store_url, public_url=settings.public_url, signing_key=key)
    images = open_store(settings.images_store, public_url=settings.public_url, signing_key=key)
    jobs = open_job_store(settings)
    return Services(
        settings,
        images,
        jobs,
        open_policies(settings.policies_store),
        inference(settings, jobs),
        Manifests(bundles, served=settings.endpoint_by_model() or None),
        polling(jobs, run),
        log,
        releases=open_releases(settings.policies_store) if settings.endpoints else None,
        run=run,
        count=count,
    )


def open_job_store(settings: Settings) -> JobStore:
    return open_jobs(
        settings.jobs_url,
        max_queued=settings.max_queued_jobs,
        max_tenant_queued=settings.tenant_queue(),
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
