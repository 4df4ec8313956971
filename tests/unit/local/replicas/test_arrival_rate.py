"""Rates and latencies over the last minute."""

import math

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


def test_the_statistic_is_the_metrics():
    arrival_rate = ArrivalRate(lambda: 5.0)
    assert arrival_rate.latency(Metric(target=1)) is None
    for seconds in range(1, 11):
        arrival_rate.answered(float(seconds))
    latencies = {"average": 5.5, "maximum": 10.0, "p50": 5.0, "p90": 9.0}
    assert {name: arrival_rate.latency(Metric(target=1, statistic=name)) for name in latencies} == latencies
    assert arrival_rate.last_work == 5.0
