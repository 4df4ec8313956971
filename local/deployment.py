"""Everything that runs on one machine, wired: API, job store, object store, runtimes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence

import structlog

from api.app import ControlPlane
from api.call import Call
from api.limits.origins import Origins
from api.manifests import Manifests
from api.readiness import NOTHING
from api.services import Services, open_job_store
from darkroom.errors import JobStoreUnavailable, StorageUnavailable
from darkroom.images import finished, uploads
from darkroom.scaling.storage import open_policies
from darkroom.settings import Settings
from darkroom.storage import open_store
from darkroom.storage.directory import DirectoryStore
from local import app, http_server, seeding
from local.errors import CannotStart
from local.metrics import Metrics
from local.objects import SignedObjects
from local.opening import opening
from local.replicas.arrival_rate import ArrivalRate
from local.replicas.autoscaler import Autoscaler, Clock
from local.replicas.bulletin import Bulletin
from local.replicas.deadlines import Deadlines
from local.replicas.pool import Pool
from local.replicas.replica import RUNTIME, RuntimeDidNotStart
from local.waiting import BulletinWaiting

log = structlog.get_logger(part="deployment")

_HOUR = 3600.0


class Deployment:
    """Built inside a running event loop; `run()` serves on `listener` until `stop()`.

    `settings` come from `data.prepare`. `announce` is told once, when the first runtime is ready. `emit` gets the
    runtimes' log lines; `clock` is what the scaling policy follows. Raises: CannotStart.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        *,
        announce: Callable[[Deployment], None],
        emit: Callable[[str], None],
        program: Sequence[str] = RUNTIME,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self._listener = listener
        self._announce = announce
        self._stops = 0
        key = settings.signing_key.encode()
        with opening("DARKROOM_JOBS_URL"):
            self.jobs = open_job_store(settings)
        with opening("DARKROOM_POLICIES_URL" if settings.policies_url else "DARKROOM_JOBS_URL"):
            self.policies = open_policies(settings.policies_store)
        with opening("DARKROOM_STORE_URL"):
            self.store = open_store(settings.store_url, public_url=settings.public_url, signing_key=key)
            for published in seeding.seed(self.store, settings):
                log.info("bundle published", bundle=published)
        with opening("DARKROOM_IMAGES_URL" if settings.images_url else "DARKROOM_STORE_URL"):
            self.images = open_store(settings.images_store, public_url=settings.public_url, signing_key=key)
            list(self.images.keys(NOTHING))
        clock = clock or Clock()
        arrival_rate = ArrivalRate(clock.monotonic)
        self.bulletin = Bulletin(arrival_rate=arrival_rate)
        self.pool = Pool(settings, self.jobs, self.bulletin, emit=emit, program=program)
        self.autoscaler = Autoscaler(settings, self.pool, self.jobs, self.policies, self.bulletin, arrival_rate, clock)
        self._server = http_server.server(self._app())

    def _app(self) -> ControlPlane:
        waiting = BulletinWaiting(self.jobs, self.bulletin)
        prometheus = Metrics(self.jobs, self.pool)

        def answered(call: Call, seconds: float) -> None:
            prometheus.answered(call, seconds)
            app.logged(call, seconds)

        directory = self.images if isinstance(self.images, DirectoryStore) else None
        services = Services(
            self.settings,
            self.images,
            self.jobs,
            self.policies,
            self.bulletin,
            Manifests(self.store, served={self.settings.default_model}),
            waiting.wait,
            app.log,
            follow=waiting.follow,
            health=self.pool.health,
            draining=lambda: self.pool.draining,
            most_replicas=self.pool.most,
            store_at=directory.reached_at if directory and not self.settings.public_url else None,
            origins=Origins(self.settings.hosts(), self.settings.public_url, self.settings.pages()),
        )
        return ControlPlane(services, app.routes(SignedObjects(directory) if directory else None, prometheus), answered)

    async def run(self) -> None:
        """Serve until `stop`; what is in flight then finishes, or is queued for the next start.

        Raises: CannotStart.
        """
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        working = asyncio.create_task(self.pool.run())
        works = (
            self._announce_when_ready(),
            self.autoscaler.run(),
            Deadlines(self.jobs, self.bulletin, self.settings.job_seconds).run(),
            self._hourly(self._forget_old_jobs),
            self._hourly(self._forget_uploads),
            self._hourly(self._forget_images),
        )
        beside = [asyncio.create_task(work) for work in works]
        try:
            await asyncio.wait({serving, working}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():  # the server gave up by itself
                self.pool.abort()
            await working
        except RuntimeDidNotStart as failed:
            raise CannotStart(str(failed)) from None
        finally:
            for task in beside:
                task.cancel()
            self.bulletin.close()
            self._server.should_exit = True
            await serving

    def stop(self) -> None:
        """Drain at the first call; at the second stop at once."""
        self._stops += 1
        if self._stops == 1:
            self.pool.drain()
        else:
            self.pool.abort()
            self._server.force_exit = True

    async def _announce_when_ready(self) -> None:
        await self.pool.ready()
        self._announce(self)

    async def _hourly(self, work: Callable[[], object]) -> None:
        while True:
            with contextlib.suppress(JobStoreUnavailable, StorageUnavailable):
                await asyncio.to_thread(work)
            await asyncio.sleep(_HOUR)

    def _forget_old_jobs(self) -> None:
        self.jobs.purge(finished_before=time.time() - self.settings.job_days * 86_400)

    def _forget_images(self) -> None:
        if days := self.settings.image_days:
            finished.purge(self.images, made_before=time.time() - days * 86_400)

    def _forget_uploads(self) -> None:
        uploads.purge(self.images, made_before=time.time() - self.settings.upload_hours * _HOUR)
