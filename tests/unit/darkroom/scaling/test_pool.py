"""The pool's decision: demand, cooldowns, holding on missing metrics, zero and back, bounded oscillation."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.scaling.document import parse_policy
from darkroom.scaling.pool import STALE_AFTER, TURNS, TURNS_WITHIN, LoadSample, PoolState, ReplicaBounds, decide

QUEUE = parse_policy({"min": 1, "max": 8, "metrics": {"queue_depth": {"target": 4, "scale_in_cooldown": "2m"}}})
GPU = parse_policy({"min": 1, "max": 8, "metrics": {"gpu": 50, "queue_depth": 4}})
ZERO = parse_policy({"min": 0, "max": 4, "scale_to_zero_after": "20s", "metrics": {"queue_depth": 4}})


def readings(clock, **values):
    return {name: LoadSample(float(value), clock) for name, value in values.items()}


def run(policy, trace, limits=None, start=1, every=15.0):
    """Decide every `every` seconds on successive queue depths (None: no reading); the replicas after each."""
    limits = limits or ReplicaBounds(policy.min, policy.max)
    state, found = PoolState.fresh(start, 0.0), []
    for step, queue in enumerate(trace):
        clock = every * step
        seen = {} if queue is None else readings(clock, queue_depth=queue)
        state = decide(policy, limits, seen, state, clock).state
        found.append(state.replicas)
    return found


def test_the_metric_that_asks_for_most_wins():
    decision = decide(GPU, ReplicaBounds(1, 8), readings(0, gpu=95, queue_depth=21), PoolState.fresh(2, 0.0), 0.0)
    assert decision.replicas == 6
    assert decision.reasons == ("queue_depth asks for 6",)


def test_readings_per_replica_count_only_ready_ones():
    state = PoolState.fresh(4, 0.0)
    assert decide(GPU, ReplicaBounds(1, 8), readings(0, gpu=100, queue_depth=4), state, 0.0, ready=1).replicas == 4
    assert decide(GPU, ReplicaBounds(1, 8), readings(0, gpu=100, queue_depth=4), state, 0.0, ready=4).replicas == 8


def test_within_a_tenth_of_the_target_nothing_moves():
    assert (
        decide(GPU, ReplicaBounds(1, 8), readings(0, gpu=54, queue_depth=2), PoolState.fresh(2, 0.0), 0.0).replicas == 2
    )


def test_limits_hold_at_once_in_both_directions():
    state = PoolState.fresh(1, 0.0)
    up = decide(QUEUE, ReplicaBounds(3, 8), readings(0, queue_depth=1), state, 0.0)
    assert (up.replicas, up.reasons[-1]) == (3, "the timeline allows 3 to 8")
    assert decide(QUEUE, ReplicaBounds(0, 2), readings(1, queue_depth=99), up.state, 1.0).replicas == 2
    assert decide(QUEUE, ReplicaBounds(0, 0), readings(2, queue_depth=99), up.state, 2.0).replicas == 0


def test_out_cooldown_holds_a_second_increase():
    assert run(QUEUE, [8, 32, 32, 32, 32])[:5] == [2, 2, 2, 2, 8]


def test_in_cooldown_outlasts_the_last_higher_demand():
    # 16 waiting ask for 4 replicas; calm from the third look on; two minutes pass before any goes
    found = run(QUEUE, [16, 16] + [2] * 12)
    assert found[:10] == [4] * 10
    assert found[-1] == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_senseless_readings_hold(value):
    state = PoolState.fresh(3, -1000.0)
    decision = decide(QUEUE, ReplicaBounds(0, 8), readings(0, queue_depth=value), state, 0.0)
    assert decision.replicas == 3
    assert "no usable reading of queue_depth" in decision.reasons[0]


def test_stale_readings_hold_and_never_lead_to_zero():
    state = PoolState.fresh(2, -10_000.0)
    stale = {"queue_depth": LoadSample(0.0, -STALE_AFTER - 1)}
    assert decide(ZERO, ReplicaBounds(0, 4), stale, state, 0.0).replicas == 2
    assert run(ZERO, [None] * 200, start=1)[-1] == 1


def test_the_patience_before_zero_starts_anew_after_missing_readings():
    assert run(ZERO, [1, 0, None, 0, 0, 0], start=1) == [1, 1, 1, 1, 0, 0]
    assert run(ZERO, [1, None, None, None, 0, 0], start=1) == [1, 1, 1, 1, 1, 0]


def test_what_is_still_seen_may_add_replicas():
    decision = decide(GPU, ReplicaBounds(1, 8), readings(0, queue_depth=20), PoolState.fresh(2, 0.0), 0.0)
    assert decision.replicas == 5


def test_zero_after_idling_and_back_with_the_first_request():
    assert run(ZERO, [1, 0, 0, 0, 0, 1, 1, 9]) == [1, 1, 0, 0, 0, 1, 1, 1]


def test_waking_needs_a_known_queue():
    state = PoolState.fresh(0, 0.0)
    assert decide(ZERO, ReplicaBounds(0, 4), {}, state, 0.0).replicas == 0
    assert decide(ZERO, ReplicaBounds(0, 4), readings(0, queue_depth=9), state, 0.0).replicas == 3


def test_work_between_two_looks_counts_as_work():
    state = PoolState.fresh(1, 0.0)
    seen = readings(100, queue_depth=0, requests_per_second=0.02)
    assert decide(ZERO, ReplicaBounds(0, 4), seen, state, 100.0).replicas == 1


def test_the_last_replica_stays_where_the_minimum_says_so():
    assert run(QUEUE, [0] * 100, start=3)[-1] == 1


def reversals(replicas):
    moves = [b - a for a, b in pairwise(replicas) if b != a]
    return sum(1 for a, b in pairwise(moves) if a > 0 > b)


def test_oscillating_load_has_bounded_reversals():
    """Row 81: without cooldowns, a load that swings each half minute still turns the pool only so often."""
    nervous = parse_policy(
        {
            "min": 1,
            "max": 8,
            "metrics": {"queue_depth": {"target": 1, "scale_in_cooldown": "0s", "scale_out_cooldown": "0s"}},
        }
    )
    steps = int(TURNS_WITHIN / 15)
    found = run(nervous, [8 if step // 2 % 2 else 1 for step in range(steps)])
    assert reversals(found) <= TURNS
    assert found[-1] == 8  # it waits with the larger number


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.none(), st.integers(0, 60), st.just(math.nan)), min_size=1, max_size=400), st.booleans())
def test_any_load_stays_within_limits_and_turns(queues, to_zero):
    policy = ZERO if to_zero else QUEUE
    found = run(policy, queues)
    assert all(policy.min <= replicas <= policy.max for replicas in found)
    hour = int(TURNS_WITHIN / 15)
    assert all(reversals(found[at : at + hour]) <= TURNS + 1 for at in range(0, len(found), 40))
    for before, now, queue in zip([1, *found], found, queues, strict=False):
        if queue is None or math.isnan(queue):
            assert now == before


def test_idleness_counts_from_the_last_work_where_that_is_known():
    seen = readings(100.0, queue_depth=0, requests_per_second=0.1)
    state = PoolState.fresh(1, 50.0)
    for last_work, replicas in ((80.0, 0), (80.1, 1), (-math.inf, 0), (None, 1)):
        decision = decide(ZERO, ReplicaBounds(0, 2), seen, state, 100.0, last_work=last_work)
        assert decision.replicas == replicas
