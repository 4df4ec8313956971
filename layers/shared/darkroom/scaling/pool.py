"""What a pool of replicas should be now: a pure decision from limits, observed metrics and a monotonic clock.

The same function drives the pool of one machine and the simulation of `plan`. It holds on missing, stale or senseless
metrics: those it still sees may add replicas, but none is taken away on what is not known, and never the last one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from darkroom.scaling.policy import MetricName, ScalingPolicy

STALE_AFTER = 60.0  # seconds: an older reading counts as missing
TOLERANCE = 0.1  # within a tenth of the target nothing moves, as Kubernetes' autoscaler has it
TURNS = 6  # reversals from more to fewer replicas that metrics may cause ...
TURNS_WITHIN = 3600.0  # ... in this many seconds; then the pool waits with taking replicas away


@dataclass(frozen=True)
class LoadSample:
    """One metric's value over the pool, and the monotonic second it was taken at.

    `gpu`, `cpu`, `memory` (percent of a replica) and `latency` (seconds) by the metric's statistic;
    `requests_per_second` and `queue_depth` (requests accepted and not finished) as totals.
    """

    value: float
    taken: float


@dataclass(frozen=True)
class ReplicaBounds:
    """What the timeline allows now."""

    min: int
    max: int


@dataclass(frozen=True)
class PoolState:
    """What is carried from one decision to the next; times are monotonic seconds."""

    replicas: int
    started: float
    last_out: float = -math.inf
    busy: float = -math.inf
    demands: tuple[tuple[float, int], ...] = ()
    turns: tuple[float, ...] = ()
    rising: bool = True

    @staticmethod
    def fresh(replicas: int, clock: float) -> PoolState:
        """A pool first seen with so many replicas; it counts as busy until now."""
        return PoolState(replicas=replicas, started=clock, busy=clock)


@dataclass(frozen=True)
class Decision:
    """How many replicas there should be, why (sentences for people), and the state to come back with."""

    replicas: int
    reasons: tuple[str, ...]
    state: PoolState


@dataclass(frozen=True)
class _Demand:
    """What the metrics ask for: `replicas` of those that were read, None where not one was."""

    replicas: int | None
    driver: str
    out_cooldown: float
    missing: tuple[str, ...]


def decide(
    policy: ScalingPolicy,
    limits: ReplicaBounds,
    readings: Mapping[MetricName, LoadSample],
    state: PoolState,
    clock: float,
    *,
    ready: int | None = None,
    last_work: float | None = None,
) -> Decision:
    """The number of replicas wanted at `clock` (monotonic seconds).

    Always give `queue_depth`, even where the policy does not follow it: work that waits wakes a pool at zero, and only
    a queue known to be empty lets it fall to zero, `scale_to_zero_after` its last work. `requests_per_second` tells of
    work that came and went between two looks. `ready` is how many replicas the readings per replica were taken from,
    where some are still starting; default all. `last_work` is when work last came or ended, where that is known to the
    second: idleness then counts from it, and not from when the rate of requests has come down.
    """
    waiting = _usable(readings.get("queue_depth"), clock)
    if waiting is None or waiting > 0:
        state = replace(state, busy=clock)
    elif last_work is not None:
        state = replace(state, busy=max(state.busy, last_work))
    elif _usable(readings.get("requests_per_second"), clock):
        state = replace(state, busy=clock)
    current = state.replicas
    demand = _demand(policy, readings, current, current if ready is None else ready, clock)
    reasons: list[str] = []
    if demand.missing and current > 0:
        reasons.append(f"no usable reading of {', '.join(demand.missing)}: not fewer")
    wanted = _within_bounds_of_knowledge(demand, current, waiting)
    wanted = _last_replica(policy, limits, wanted, waiting, state, clock, reasons)
    demands = (*_recent(policy, state, clock), (clock, wanted))
    state = replace(state, demands=demands)
    calm, reason = _calmed(policy, demand, wanted, state, limits, clock)
    if reason:
        reasons.append(reason)
    bounded = min(max(calm, limits.min), limits.max)
    if bounded != calm:
        reasons.append(f"the timeline allows {limits.min} to {limits.max}")
    elif bounded != current and not reason:
        reasons.append(f"{demand.driver} asks for {bounded}" if bounded else "idle: nothing has waited for long enough")
    by_metrics = limits.min <= current <= limits.max
    return Decision(bounded, tuple(reasons), _moved(state, bounded, clock, by_metrics=by_metrics))


def _usable(reading: LoadSample | None, clock: float) -> float | None:
    if reading is None or not math.isfinite(reading.value) or reading.value < 0:
        return None
    return reading.value if clock - reading.taken <= STALE_AFTER else None


def _demand(
    policy: ScalingPolicy, readings: Mapping[MetricName, LoadSample], current: int, ready: int, clock: float
) -> _Demand:
    demands: list[tuple[int, str, float]] = []
    missing: list[str] = []
    for name, metric in policy.metrics.chosen():
        value = _usable(readings.get(name), clock)
        if value is None:
            missing.append(name)
            continue
        total = value if name in ("requests_per_second", "queue_depth") else value * ready
        replicas = total / metric.target
        near = current > 0 and abs(replicas / current - 1) <= TOLERANCE
        whole = current if near else math.ceil(min(replicas, 1e6) - 1e-9)
        demands.append((whole, name, metric.scale_out_cooldown.total_seconds()))
    if not demands:
        return _Demand(None, "", 0.0, tuple(missing))
    most, driver, cooldown = max(demands, key=lambda one: one[0])
    return _Demand(most, driver, cooldown, tuple(missing))


def _within_bounds_of_knowledge(demand: _Demand, current: int, waiting: float | None) -> int:
    """Metrics that were not read can only hold; at zero, replicas have no metrics, and waiting work wakes one."""
    if current == 0:
        return max(demand.replicas or 0, 1) if waiting else 0
    if demand.replicas is None or demand.missing:
        return max(current, demand.replicas or 0)
    return demand.replicas


def _last_replica(
    policy: ScalingPolicy,
    limits: ReplicaBounds,
    wanted: int,
    waiting: float | None,
    state: PoolState,
    clock: float,
    reasons: list[str],
) -> int:
    if wanted > 0 or state.replicas == 0:
        return wanted
    if limits.min > 0:
        return 1
    idle = clock - state.busy
    patience = policy.scale_to_zero_after.total_seconds()
    if waiting == 0 and idle >= patience:
        return 0
    if waiting == 0:
        reasons.append(f"idle for {idle:.0f} s of the {patience:.0f} s before zero")
    return 1


def _scale_in_seconds(policy: ScalingPolicy) -> float:
    return max(metric.scale_in_cooldown.total_seconds() for _, metric in policy.metrics.chosen())


def _recent(policy: ScalingPolicy, state: PoolState, clock: float) -> tuple[tuple[float, int], ...]:
    oldest = clock - _scale_in_seconds(policy)
    return tuple((at, replicas) for at, replicas in state.demands if at >= oldest)


def _calmed(
    policy: ScalingPolicy, demand: _Demand, wanted: int, state: PoolState, limits: ReplicaBounds, clock: float
) -> tuple[int, str]:
    """Cooldowns, and the bound on reversals. More at once, fewer only when nothing recent asked for more."""
    current = state.replicas
    if wanted > current:
        if current > 0 and clock - state.last_out < demand.out_cooldown:
            return current, f"{demand.driver} asks for {wanted}, within the cooldown after the last increase"
        return wanted, ""
    if wanted == current:
        return current, ""
    turns = sum(1 for at in state.turns if clock - at < TURNS_WITHIN)
    if state.rising and turns >= TURNS and current <= limits.max:
        return current, f"the load oscillates: {TURNS} reversals within an hour"
    if wanted == 0:  # its own patience has passed
        return 0, ""
    cooldown = _scale_in_seconds(policy)
    if clock - max(state.started, state.last_out) < cooldown:
        return current, "within the cooldown before a decrease"
    highest = max(replicas for _, replicas in state.demands)
    if highest >= current:
        return current, "more was asked for within the cooldown before a decrease"
    return max(highest, wanted), ""


def _moved(state: PoolState, replicas: int, clock: float, *, by_metrics: bool) -> PoolState:
    current = state.replicas
    if replicas > current:
        return replace(state, replicas=replicas, last_out=clock, rising=True)
    if replicas < current:
        turns = tuple(at for at in state.turns if clock - at < TURNS_WITHIN)
        if state.rising and by_metrics:
            turns = (*turns, clock)
        return replace(state, replicas=replicas, turns=turns, rising=False)
    return state
