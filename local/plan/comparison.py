"""A policy beside what one would do without it: always as many replicas as it ever allows, always as few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from darkroom.scaling.policy import Metric, Metrics, ScalingPolicy
from darkroom.scaling.prices import Price
from darkroom.scaling.timeline import Timeline, timeline
from local.plan.service import ServiceTimes
from local.plan.simulation import Outcome, simulate


@dataclass(frozen=True)
class Compared:
    """An outcome and what it costs over the interval."""

    outcome: Outcome
    money: float


def always(replicas: int) -> ScalingPolicy:
    """The same number, whatever happens."""
    return ScalingPolicy(min=replicas, max=replicas, metrics=Metrics(queue_depth=Metric(target=1.0)))


def candidates(policy: ScalingPolicy, line: Timeline) -> list[tuple[str, ScalingPolicy, Timeline]]:
    """The policy, always-max and always-min (at least one replica: with none nothing would be served)."""
    most = max(max(point.max for point in line.breakpoints), 1)
    fewest = max(min(point.min for point in line.breakpoints), 1)
    fixed = [(f"always {most} (max)", always(most)), (f"always {fewest} (min)", always(fewest))]
    return [("the policy", policy, line), *((name, one, timeline(one, line.start, line.end)) for name, one in fixed)]


def compare(
    policy: ScalingPolicy, line: Timeline, arrivals: Sequence[float], service: ServiceTimes, price: Price
) -> Iterator[Compared]:
    """Simulate each candidate in turn, the policy first."""
    for label, candidate, its_line in candidates(policy, line):
        outcome = simulate(label, candidate, its_line, arrivals, service)
        yield Compared(outcome, outcome.replica_hours * price.per_hour)
