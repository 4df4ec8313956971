"""A trace replayed through a policy: the pool's own decision function, on a clock of events."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from darkroom.scaling.policy import MetricName, ScalingPolicy, percentile
from darkroom.scaling.pool import LoadSample, PoolState, ReplicaBounds, decide
from darkroom.scaling.timeline import Timeline
from local.plan.service import ServiceTimes, SimulatedPool, SimulatedReplica
from local.replicas.arrival_rate import ArrivalRate

OBSERVE_EVERY = 15.0  # seconds between two decisions
AFTERWARDS = 3600.0  # seconds that what is unfinished at the end may still take


@dataclass(frozen=True)
class Moment:
    """The pool at one minute."""

    at: datetime
    ready: int
    ordered: int
    unfinished: int
    arrived: int


@dataclass(frozen=True)
class Outcome:
    """What a policy came to on a trace. Latencies in seconds, from arrival to the answer, over all requests.

    `cold`: requests that arrived when no replica was ready. `starts`: replicas started. `unfinished`: requests not
    answered within an hour after the end; their latency counts as what they had waited by then.
    """

    label: str
    requests: int
    unfinished: int
    p50: float
    p95: float
    p99: float
    deepest_queue: int
    cold: int
    starts: int
    replica_hours: float
    moments: tuple[Moment, ...]
    latencies: tuple[float, ...] = ()  # ascending, one for each request


def simulate(
    label: str, policy: ScalingPolicy, line: Timeline, arrivals: Sequence[float], service: ServiceTimes
) -> Outcome:
    """Replay `arrivals` (seconds after the timeline's start, ascending) through the policy.

    Deterministic. The pool begins with the replicas that the timeline's first minimum asks for, ready.
    """
    return _Simulation(label, policy, line, arrivals, service).run()


class _Simulation:
    def __init__(
        self, label: str, policy: ScalingPolicy, line: Timeline, arrivals: Sequence[float], service: ServiceTimes
    ) -> None:
        self.label, self.policy, self.line, self.arrivals, self.service = label, policy, line, arrivals, service
        self.seconds = (line.end - line.start).total_seconds()
        self.pool = SimulatedPool(service)
        self.pool.resize(line.breakpoints[0].min, 0.0, warm=True)
        self.state = PoolState.fresh(line.breakpoints[0].min, 0.0)
        self.boundaries: list[tuple[float, int, SimulatedReplica]] = []
        self.order = count()
        self.latencies: list[float] = []
        self.now = 0.0
        self.arrival_rate = ArrivalRate(lambda: self.now)
        self.cold = self.deepest = self.minute_arrivals = 0
        self.moments: list[Moment] = []

    def run(self) -> Outcome:
        next_arrival, next_look, now = 0, 0.0, 0.0
        last = self.seconds + AFTERWARDS
        hours = 0.0
        while now < last:
            arrival = self.arrivals[next_arrival] if next_arrival < len(self.arrivals) else math.inf
            boundary = self.boundaries[0][0] if self.boundaries else math.inf
            now = self.now = min(arrival, boundary, next_look)
            if now >= self.seconds and not hours:
                hours = self._hours(self.seconds)
            if now > self.seconds and not self.pool.unfinished:
                break
            if now == arrival:
                next_arrival += 1
                self._arrive(now)
            elif now == boundary:
                self._step(heapq.heappop(self.boundaries)[2], now)
            else:
                next_look += OBSERVE_EVERY
                self._look(now)
        return self._outcome(hours or self._hours(self.seconds), now)

    def _hours(self, now: float) -> float:
        running = sum(now - replica.ordered for replica in self.pool.replicas)
        return (self.pool.replica_seconds + running) / 3600.0

    def _arrive(self, now: float) -> None:
        self.pool.queue.append(now)
        self.arrival_rate.arrived()
        self.minute_arrivals += 1
        ready = self.pool.ready_at(now)
        self.cold += not ready
        idle = next((replica for replica in ready if not replica.stepping), None)
        if idle is not None:
            self._step(idle, now)
        self.deepest = max(self.deepest, len(self.pool.queue))

    def _step(self, replica: SimulatedReplica, now: float) -> None:
        if replica not in self.pool.replicas or (replica.stepping and replica.busy_until > now):
            return  # it has gone, or a boundary of an earlier plan
        finished, following = self.pool.step(replica, now)
        for arrival in finished:
            self.latencies.append(now - arrival)
            self.arrival_rate.answered(now - arrival)
        if following is not None:
            heapq.heappush(self.boundaries, (following, next(self.order), replica))

    def _look(self, now: float) -> None:
        at = self.line.start + timedelta(seconds=min(now, self.seconds - 1.0))
        point = self.line.at(at)
        ready = len(self.pool.ready_at(now))
        limits, readings = ReplicaBounds(point.min, point.max), self._readings(now)
        decision = decide(self.policy, limits, readings, self.state, now, ready=ready)
        self.state = decision.state
        for replica in self.pool.resize(decision.replicas, now):
            heapq.heappush(self.boundaries, (replica.ready, next(self.order), replica))
        if now % 60.0 == 0 and now < self.seconds:
            self.moments.append(Moment(at, ready, len(self.pool.replicas), self.pool.unfinished, self.minute_arrivals))
            self.minute_arrivals = 0

    def _readings(self, now: float) -> dict[MetricName, LoadSample]:
        utilisation = self.pool.utilisation(now, now - OBSERVE_EVERY)
        values: dict[MetricName, float] = {
            "gpu": utilisation,
            "cpu": utilisation,
            "memory": self.service.memory_percent,
            "requests_per_second": self.arrival_rate.requests_per_second(),
            "queue_depth": float(self.pool.unfinished),
        }
        if self.policy.metrics.latency is not None:
            latency = self.arrival_rate.latency(self.policy.metrics.latency)
            if latency is not None or not self.pool.unfinished:
                values["latency"] = latency or 0.0
        return {name: LoadSample(value, now) for name, value in values.items()}

    def _outcome(self, hours: float, now: float) -> Outcome:
        waiting = [*self.pool.queue, *(image[1] for replica in self.pool.replicas for image in replica.batch)]
        latencies = sorted([*self.latencies, *(now - arrival for arrival in waiting)])
        p50, p95, p99 = (percentile(latencies, share) for share in (0.50, 0.95, 0.99))
        return Outcome(
            label=self.label,
            requests=len(self.arrivals),
            unfinished=len(waiting),
            p50=p50,
            p95=p95,
            p99=p99,
            deepest_queue=self.deepest,
            cold=self.cold,
            starts=self.pool.starts,
            replica_hours=hours,
            moments=tuple(self.moments),
            latencies=tuple(latencies),
        )
