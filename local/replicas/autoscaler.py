"""Keeps the pool at what the scaling policy says: every two seconds, and at once when a request finds it at zero."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from darkroom.contracts import JobStatus
from darkroom.errors import InvalidPolicy, JobStoreUnavailable
from darkroom.jobs import JobStore
from darkroom.scaling.document import parse_policy
from darkroom.scaling.policy import MetricName, ScalingPolicy
from darkroom.scaling.pool import LoadSample, PoolState, ReplicaBounds, decide
from darkroom.scaling.storage import PolicyStore, StoredPolicy
from darkroom.scaling.timeline import Timeline, timeline
from darkroom.settings import Settings
from local.replicas.arrival_rate import ArrivalRate
from local.replicas.bulletin import Bulletin
from local.replicas.pool import Pool
from local.replicas.usage import Usage

log = structlog.get_logger(part="autoscaler")

_TICK_SECONDS = 2.0
_AHEAD = timedelta(days=1)  # how much of the timeline is computed at once


@dataclass(frozen=True)
class Clock:
    """The wall clock that windows follow, and the monotonic one (seconds) that everything else does."""

    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class _Followed:
    version: int
    policy: ScalingPolicy
    line: Timeline


def _followed(stored: StoredPolicy, now: datetime) -> _Followed:
    """Raises: InvalidPolicy."""
    policy = parse_policy(stored.document)
    return _Followed(stored.version, policy, timeline(policy, now, now + _AHEAD))


class Autoscaler:
    """Follows the default model's policy; without one there are `settings.runtimes` replicas, as ever."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        jobs: JobStore,
        policies: PolicyStore,
        bulletin: Bulletin,
        arrival_rate: ArrivalRate,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._jobs = jobs
        self._policies = policies
        self._bulletin = bulletin
        self._arrival_rate = arrival_rate
        self._clock = clock
        self._usage = Usage(clock.monotonic)
        self._followed: _Followed | None = None
        self._refused = 0  # the version that was last said to be unfit
        self.state: PoolState | None = None

    async def run(self) -> None:
        """Until it is cancelled. It begins once a replica is ready, so that a broken bundle is told at the start."""
        await self._pool.ready()
        with self._bulletin.arrivals() as arrival:
            while True:
                arrival.clear()
                try:
                    await self.tick()
                except JobStoreUnavailable:
                    log.error("job store down; the number of replicas stays")
                except Exception as error:  # a bug here must not end the serving
                    log.error("autoscaler broke; the number of replicas stays", exc_info=error)
                if self._pool.wanted:
                    await asyncio.sleep(_TICK_SECONDS)
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(arrival.wait(), _TICK_SECONDS)

    async def tick(self) -> None:
        """Look, decide, and resize the pool. Raises: JobStoreUnavailable."""
        followed = self._followed = await self._read()
        if followed is None:
            self.state = None
            self._pool.resize(self._settings.runtimes)
            return
        readings = await self._readings(followed.policy)
        now = self._clock.monotonic()
        state = self.state or PoolState.fresh(self._pool.wanted, now)
        point = followed.line.at(self._clock.wall())
        decision = decide(
            followed.policy,
            ReplicaBounds(point.min, point.max),
            readings,
            state,
            now,
            ready=self._pool.ready_count,
            last_work=self._arrival_rate.last_work,
        )
        self.state = decision.state
        if decision.replicas != state.replicas:
            log.info(
                "scaling",
                before=state.replicas,
                replicas=decision.replicas,
                why="; ".join(decision.reasons),
                limits=point.why,
            )
        self._pool.resize(decision.replicas, may_wake=point.max > 0)

    async def _read(self) -> _Followed | None:
        """The policy and what it allows now; the last one again where the stored one cannot be followed."""
        stored = await asyncio.to_thread(self._policies.get, self._settings.default_model)
        if stored is None:
            return None
        known, now = self._followed, self._clock.wall()
        holds = known is not None and known.line.start <= now < known.line.end
        if known and holds and known.version == stored.version:
            return known
        try:
            return await asyncio.to_thread(_followed, stored, now)  # it may take a tenth of a second
        except InvalidPolicy as refused:
            if self._refused != stored.version:
                log.error("the policy cannot be followed", version=stored.version, reason=refused.detail)
            self._refused = stored.version
            return known if holds else None

    async def _readings(self, policy: ScalingPolicy) -> dict[MetricName, LoadSample]:
        """What can be known on one machine; a metric that is left out is missing, and the pool holds on it."""
        values: dict[MetricName, float] = {"requests_per_second": self._arrival_rate.requests_per_second()}
        with contextlib.suppress(JobStoreUnavailable):
            counts = await asyncio.to_thread(self._jobs.counts)
            values["queue_depth"] = float(counts[JobStatus.QUEUED] + counts[JobStatus.RUNNING])
        if policy.metrics.latency is not None:
            latency = self._arrival_rate.latency(policy.metrics.latency)
            if latency is None and values.get("queue_depth") == 0:
                latency = 0.0  # nothing came and nothing waits
            if latency is not None:
                values["latency"] = latency
        ready = [replica for replica in self._pool.replicas if replica.readiness.ready]
        used = self._usage.look([replica.pid for replica in ready if replica.pid is not None])
        for name, metric in policy.metrics.chosen():
            if name in ("cpu", "memory") and used:
                values[name] = metric.of([getattr(one, name) for one in used]) or 0.0
        now = self._clock.monotonic()
        return {name: LoadSample(value, now) for name, value in values.items()}
