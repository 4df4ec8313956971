"""What becomes of a job whose attempt failed: policy only."""

from __future__ import annotations

from enum import Enum

from darkroom.errors import DarkroomError, Draining, GenerationFailed, Overloaded, RuntimeUnavailable
from darkroom.inference.http import Unreached


class Verdict(Enum):
    REQUEUE = "back into the queue; it was not tried"
    RETRY = "back into the queue; that was one attempt"
    FAIL = "failed with this error"


def verdict(error: DarkroomError) -> Verdict:
    """A runtime that is full, leaving or out of reach did not try. An attempt that broke the engine or the runtime is
    worth another (the job store gives up after `max_attempts`, as `poisoned`). Anything else would fail again, or, as
    with a full object store, would make the image again for nothing.
    """
    if isinstance(error, Overloaded | Draining | Unreached):
        return Verdict.REQUEUE
    if isinstance(error, GenerationFailed | RuntimeUnavailable):
        return Verdict.RETRY
    return Verdict.FAIL
