"""The simulated pool, against figures that can be worked out by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from darkroom.scaling.document import parse_policy, read_policy_file
from darkroom.scaling.policy import percentile
from darkroom.scaling.prices import Price
from darkroom.scaling.timeline import timeline
from local.plan.comparison import always, compare
from local.plan.service import ServiceTimes, SimulatedPool
from local.plan.simulation import simulate
from local.plan.trace import read_trace

START = datetime(2026, 11, 16, tzinfo=UTC)
# A step of n images takes 0.5 + 0.5 n seconds; ten steps: 10 s alone, 15 s for two.
SERVICE = ServiceTimes(steps=10, step=0.5, image_step=0.5, overhead=0.0, batch=4, start=60.0)


def outcome(document, arrivals, hours=1.0, service=SERVICE):
    policy = parse_policy(document)
    line = timeline(policy, START, START + timedelta(hours=hours))
    return simulate("it", policy, line, arrivals, service)


def test_one_request_takes_its_steps():
    found = outcome({"min": 1, "max": 1}, [5.0])
    assert (found.p50, found.p99) == (pytest.approx(10.0), pytest.approx(10.0))
    assert found.replica_hours == pytest.approx(1.0)
    assert (found.cold, found.starts, found.unfinished) == (0, 0, 0)


def test_a_second_request_joins_the_batch_at_a_step_boundary():
    found = outcome({"min": 1, "max": 1}, [0.0, 0.2])
    # one step alone (1 s), nine together (1.5 s each), then the second one's last step alone (1 s)
    assert found.p50 == pytest.approx(1.0 + 9 * 1.5)
    assert found.p99 == pytest.approx(1.0 + 9 * 1.5 + 1.0 - 0.2)


def test_joining_costs_its_overhead_once():
    service = ServiceTimes(steps=10, step=0.5, image_step=0.5, overhead=2.0, batch=4, start=60.0)
    assert outcome({"min": 1, "max": 1}, [0.0], service=service).p50 == pytest.approx(12.0)


def test_what_the_batch_cannot_hold_waits():
    found = outcome({"min": 1, "max": 1}, [0.0] * 5)
    # the first alone for one step, then four together, and the fifth when the first has left
    assert found.deepest_queue == 4
    assert found.p99 > 10 * 2.5


def test_replicas_share_the_queue():
    found = outcome({"min": 2, "max": 2}, [0.0, 0.0])
    assert found.p99 == pytest.approx(10.0)
    assert found.replica_hours == pytest.approx(2.0)


def test_from_zero_the_first_request_waits_for_a_replica_and_zero_comes_back():
    document = {"min": 0, "max": 1, "scale_to_zero_after": "2m"}
    found = outcome(document, [603.0])
    # looked at each 15 s: ordered at once or within one look, ready 60 s later, 10 s of work
    assert 70.0 <= found.p50 <= 85.0
    assert (found.cold, found.starts) == (1, 1)
    assert found.replica_hours == pytest.approx(3 / 60)  # a minute to start, and two minutes idle
    assert found.moments[-1].ordered == 0


def test_a_window_is_followed_to_the_minute():
    document = {"min": 0, "max": 4, "windows": [{"name": "w", "hours": "00:10-00:30", "min": 3}]}
    found = outcome(document, [1200.0])
    ordered = {moment.at.minute: moment.ordered for moment in found.moments}
    ready = {moment.at.minute: moment.ready for moment in found.moments}
    assert (ordered[9], ordered[10], ready[10], ready[11]) == (0, 3, 0, 3)
    assert ready[29] == 3


def test_draining_finishes_what_is_in_work():
    pool = SimulatedPool(SERVICE)
    (replica,) = pool.resize(1, 0.0, warm=True)
    pool.queue.append(0.0)
    now = 0.0
    _, following = pool.step(replica, now)
    pool.resize(0, 0.5)
    assert pool.replicas == [replica]
    finished = []
    while following is not None:
        now = following
        finished, following = pool.step(replica, now)
    assert finished == [0.0]
    assert pool.replicas == []
    assert pool.replica_seconds == pytest.approx(10.0)


def test_one_that_drains_is_taken_back_before_another_is_started():
    pool = SimulatedPool(SERVICE)
    (replica,) = pool.resize(1, 0.0, warm=True)
    pool.queue.append(0.0)
    pool.step(replica, 0.0)
    pool.resize(0, 0.5)
    assert pool.resize(1, 0.6) == []
    assert not replica.draining


def test_what_is_never_finished_is_said():
    found = outcome({"min": 1, "max": 1}, [float(second) for second in range(0, 3600)], hours=1.0)
    assert found.unfinished > 1000
    assert found.p99 > 3600


def test_percentiles_are_nearest_rank():
    assert percentile([], 0.5) == 0.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.95) == 4.0


def test_the_same_trace_gives_the_same_outcome():
    policy = {
        "min": 0,
        "max": 3,
        "metrics": {"queue_depth": 2, "latency": {"target": 15, "statistic": "p95"}, "gpu": 70},
    }
    arrivals = [7.0 * n for n in range(300)]
    assert outcome(policy, arrivals) == outcome(policy, arrivals)


def test_always_is_always():
    policy = always(3)
    line = timeline(policy, START, START + timedelta(hours=2))
    assert simulate("x", policy, line, [1.0], SERVICE).replica_hours == pytest.approx(6.0)


def test_a_mixed_policy_halves_the_cost_at_the_same_p95(request):
    """On a working day and the night after it, of the office-hours trace."""
    policy = read_policy_file(request.config.rootpath / "examples" / "office-hours.yaml")
    trace = read_trace("office-hours")
    line = timeline(policy, trace.start, trace.start + timedelta(days=1))
    arrivals = trace.between(line.start, line.end).arrivals()
    mixed, most, fewest = compare(policy, line, arrivals, ServiceTimes(), Price(name="x", per_hour=1.41))
    assert most.outcome.replica_hours == pytest.approx(96.0)
    assert mixed.money <= most.money / 2
    assert mixed.outcome.p95 <= 1.05 * most.outcome.p95
    assert fewest.outcome.p95 > 10 * mixed.outcome.p95
    assert mixed.outcome.unfinished == 0
