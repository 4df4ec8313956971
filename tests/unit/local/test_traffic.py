"""Rates and latencies over the last minute."""

import math

from darkroom.scaling.policy import Metric
from local.traffic import Traffic


def test_what_is_older_than_a_minute_is_forgotten():
    now = [100.0]
    traffic = Traffic(lambda: now[0])
    assert traffic.last_work == -math.inf
    for _ in range(30):
        traffic.arrived()
    assert traffic.requests_per_second() == 0.5
    now[0] = 161.0
    assert traffic.requests_per_second() == 0.0
    assert traffic.last_work == 100.0


def test_the_statistic_is_the_metrics():
    traffic = Traffic(lambda: 5.0)
    assert traffic.latency(Metric(target=1)) is None
    for seconds in range(1, 11):
        traffic.answered(float(seconds))
    said = {name: traffic.latency(Metric(target=1, statistic=name)) for name in ("average", "maximum", "p50", "p90")}
    assert said == {"average": 5.5, "maximum": 10.0, "p50": 5.0, "p90": 9.0}
    assert traffic.last_work == 5.0
