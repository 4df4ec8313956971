"""The simulation of `plan` against the pool itself: one trace, one policy, a clock moved by hand, fake runtimes."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from darkroom.scaling.document import parse_policy
from darkroom.scaling.timeline import timeline
from local.plan.service import ServiceTimes
from local.plan.simulation import OBSERVE_EVERY, simulate
from local.replicas.autoscaler import Clock
from tests.fakes.deployment import running

START = datetime(2026, 11, 16, 8, 55, tzinfo=UTC)
MINUTES = (4, 12, 24, 24, 6, 0, 0, 6, 18, 30, 12, 0, 0, 0)  # requests in each
POLICY = {
    "min": 0,
    "max": 4,
    "windows": [{"name": "busy", "hours": "09:00-09:03", "min": 2}],
    "metrics": {"requests_per_second": {"target": 0.15, "scale_out_cooldown": "15s", "scale_in_cooldown": "1m"}},
    "scale_to_zero_after": "1m",
}
# As the fake runtime is, by this clock.
INSTANT = ServiceTimes(steps=1, step=0.0, image_step=0.001, overhead=0.0, start=0.0)


@dataclass
class Moved:
    """A clock that stands where the test put it, in seconds after the start."""

    seconds: float = 0.0


def test_the_pool_uses_the_replica_hours_that_the_plan_foretold(tmp_path):
    end = START + timedelta(minutes=len(MINUTES))
    policy = parse_policy(POLICY)
    arrivals = [60.0 * minute + 60.0 * n / count for minute, count in enumerate(MINUTES) for n in range(count)]
    foretold = simulate("the policy", policy, timeline(policy, START, end), arrivals, INSTANT)

    moved = Moved()
    clock = Clock(lambda: START + timedelta(seconds=moved.seconds), lambda: moved.seconds)
    used, most = 0.0, 0
    with running(tmp_path, clock=clock) as deployment:
        pool, autoscaler = deployment.deployment.pool, deployment.deployment.autoscaler
        assert deployment.client.put("/v1/models/crayon/scaling-policy", json=POLICY).status_code == 201
        deployment.until(lambda: autoscaler.state is not None)
        for step in range(int(60 * len(MINUTES) / OBSERVE_EVERY)):
            moved.seconds = step * OBSERVE_EVERY
            asyncio.run_coroutine_threadsafe(autoscaler.tick(), deployment.loop).result(60)
            deployment.until(lambda: pool.ready_count == pool.wanted)
            for _ in range(sum(moved.seconds <= one < moved.seconds + OBSERVE_EVERY for one in arrivals)):
                assert deployment.predict("a dog").status_code == 200
            used += pool.wanted * OBSERVE_EVERY / 3600
            most = max(most, pool.wanted)
    assert most == 4
    assert used == pytest.approx(foretold.replica_hours, rel=0.15)
