"""Powertools' logger and metrics, configured once: nothing else in the repository names them."""

from __future__ import annotations

import sys

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="darkroom-api", stream=sys.stderr)
_metrics = Metrics(namespace="Darkroom", service="api")


def count(name: str) -> None:
    """Add one to a CloudWatch metric."""
    _metrics.add_metric(name=name, unit=MetricUnit.Count, value=1)


def flush() -> None:
    """Write what was counted in this event (embedded metric format; POWERTOOLS_METRICS_DISABLED keeps it silent)."""
    if _metrics.provider.metric_set:
        _metrics.flush_metrics()
