"""What becomes of a job whose attempt failed: policy only."""

from __future__ import annotations

from enum import Enum

from darkroom.errors import DarkroomError, Draining, GenerationFailed, Overloaded, Poisoned, RuntimeUnavailable
from darkroom.inference import Unreached


class Disposition(Enum):
    REQUEUE = "back into the queue; it was not tried"
    RETRY = "back into the queue; that was one attempt"
    FAIL = "failed with this error"


def disposition(error: DarkroomError) -> Disposition:
    """A runtime that is full, leaving or out of reach did not try. An attempt that broke the engine or the runtime is
    worth another (the job store gives up after `max_attempts`, as `poisoned`). Anything else would fail again, or, as
    with a full object store, would make the image again for nothing.
    """
    if isinstance(error, Overloaded | Draining | Unreached):
        return Disposition.REQUEUE
    if isinstance(error, GenerationFailed | RuntimeUnavailable):
        return Disposition.RETRY
    return Disposition.FAIL


def ends(error: DarkroomError, attempt: int, attempts: int) -> DarkroomError | None:
    """What a job fails with when its attempt number `attempt` (from 1) of `attempts` has failed; None: try again."""
    decided = disposition(error)
    if decided is not Disposition.FAIL and attempt < attempts:
        return None
    return Poisoned() if decided is Disposition.RETRY else error
