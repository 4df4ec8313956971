"""Prometheus metrics of the API and the pool; every name is here."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from api.blocking import in_thread
from api.call import Call
from darkroom.errors import JobStoreUnavailable, NotFound
from darkroom.jobs import JobStore
from local.replicas.pool import Pool

PATH = "/metrics"
_HEADERS = {"Content-Type": CONTENT_TYPE_LATEST}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """Counts answers as they are given; asks the job store and the pool when it is scraped."""

    def __init__(self, jobs: JobStore, pool: Pool) -> None:
        self._jobs = jobs
        self._pool = pool
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "darkroom_http_answers", "HTTP answers given", ["method", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "darkroom_http_seconds", "time until an answer was given, waits included", registry=self._registry
        )
        self._by_status = Gauge("darkroom_jobs", "jobs in the job store", ["status"], registry=self._registry)
        self._replicas = Gauge(
            "darkroom_replicas", "runtimes of this machine: wanted, and ready", ["state"], registry=self._registry
        )
        self._ready = Gauge("darkroom_runtime_ready", "1 while ready", ["replica"], registry=self._registry)
        self._in_flight = Gauge("darkroom_jobs_in_flight", "given to a runtime", ["replica"], registry=self._registry)
        self._restarts = Gauge("darkroom_runtime_restarts", "since the start", ["replica"], registry=self._registry)

    def answered(self, call: Call, seconds: float) -> None:
        method = call.method if call.method in _METHODS else "other"  # callers may invent more
        self._answers.labels(method, str(call.status or "gone")).inc()
        self._seconds.observe(seconds)

    async def scraped(self, call: Call) -> Response:
        """`/metrics`, or a runtime's own at `/metrics/{replica}`.

        Raises: AdministratorNeeded, NotFound, RuntimeUnavailable.
        """
        call.administrator()
        name = call.params.get("replica", "")
        if not name:
            return await self._own()
        for replica in self._pool.replicas:
            if replica.name == name:
                text = await replica.runtime.metrics()
                return Response(text, headers=_HEADERS)
        raise NotFound("There is no runtime of this name now; `darkroom_runtime_ready` of /metrics names them.")

    async def _own(self) -> Response:
        with contextlib.suppress(JobStoreUnavailable):
            for status, jobs in (await in_thread(self._jobs.counts)).items():
                self._by_status.labels(status.value).set(jobs)
        self._replicas.labels("wanted").set(self._pool.wanted)
        self._replicas.labels("ready").set(self._pool.ready_count)
        for gauge in (self._ready, self._in_flight, self._restarts):
            gauge.clear()  # replicas come and go
        for member in self._pool.members:
            replica = member.replica
            self._ready.labels(replica.name).set(replica.readiness.ready)
            self._in_flight.labels(replica.name).set(member.dispatcher.in_flight)
            self._restarts.labels(replica.name).set(replica.restarts)
        return Response(generate_latest(self._registry), headers=_HEADERS)
