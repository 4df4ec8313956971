"""Powertools' logger, metrics and tracer, configured once: nothing else in the repository names them."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

Handler = TypeVar("Handler", bound=Callable[..., Any])
_SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "darkroom-api")

logger = Logger(service=_SERVICE, stream=sys.stderr)
_metrics = Metrics(
    namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Darkroom"),
    service=os.environ.get("POWERTOOLS_SERVICE_NAME", "api"),
)


def count(name: str) -> None:
    """Add one to a CloudWatch metric."""
    _metrics.add_metric(name=name, unit=MetricUnit.Count, value=1)


def flush() -> None:
    """Write what was counted in this event (embedded metric format; POWERTOOLS_METRICS_DISABLED keeps it silent)."""
    if _metrics.provider.metric_set:
        _metrics.flush_metrics()


def traced(handler: Handler) -> Handler:
    """The handler, shown in X-Ray with the AWS calls it makes, where it runs in Lambda with tracing switched on.

    X-Ray's library costs more than everything else together to import, so it is imported with the first event, as the
    AWS clients are. Neither answers nor events become part of a trace.
    """

    @functools.wraps(handler)
    def outer(event: Any, context: Any, **given: Any) -> Any:
        return _with_tracer(handler)(event, context, **given) if _is_traced() else handler(event, context, **given)

    return cast(Handler, outer)


def _is_traced() -> bool:
    """Lambda sets the trace's header for each event, and the task root in every function."""
    disabled = os.environ.get("POWERTOOLS_TRACE_DISABLED", "").lower() in ("1", "true")
    return not disabled and "LAMBDA_TASK_ROOT" in os.environ and "_X_AMZN_TRACE_ID" in os.environ


@functools.cache
def _with_tracer(handler: Handler) -> Handler:
    from aws_lambda_powertools import Tracer

    tracer = Tracer(service=_SERVICE, patch_modules=("botocore",))
    return cast(Handler, tracer.capture_lambda_handler(handler, capture_response=False, capture_error=False))
