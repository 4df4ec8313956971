"""Rates and latencies over the last minute."""

import gc
import math
import weakref

from darkroom.scaling.policy import Metric
from local.replicas.arrival_rate import ArrivalRate


def test_what_is_older_than_a_minute_is_forgotten():
    now = [100.0]
    arrival_rate = ArrivalRate(lambda: now[0])
    assert arrival_rate.last_work == -math.inf
    for _ in range(30):
        arrival_rate.arrived()
    assert arrival_rate.requests_per_second() == 0.5
    now[0] = 161.0
    assert arrival_rate.requests_per_second() == 0.0
    assert arrival_rate.last_work == 100.0


def test_it_does_not_grow_where_nobody_asks():
    """Without a scaling policy nothing reads it."""

    class Seconds(float):
        pass

    now, kept = [0.0], []
    arrival_rate = ArrivalRate(lambda: now[0])
    for _ in range(100):
        now[0] = Seconds(now[0] + 30)
        kept.append(weakref.ref(now[0]))
        arrival_rate.arrived()
        seconds = Seconds(1.0)
        kept.append(weakref.ref(seconds))
        arrival_rate.answered(seconds)
    del seconds
    gc.collect()
    assert sum(one() is not None for one in kept) <= 6


def test_the_statistic_is_the_metrics():
    arrival_rate = ArrivalRate(lambda: 5.0)
    assert arrival_rate.latency(Metric(target=1)) is None
    for seconds in range(1, 11):
        arrival_rate.answered(float(seconds))
    latencies = {"average": 5.5, "maximum": 10.0, "p50": 5.0, "p90": 9.0}
    assert {name: arrival_rate.latency(Metric(target=1, statistic=name)) for name in latencies} == latencies
    assert arrival_rate.last_work == 5.0
