"""Inference: where an accepted job is sent. `http` reaches a runtime directly (one machine, Kubernetes), `sagemaker` an
endpoint."""

from __future__ import annotations

from typing import Protocol

from darkroom.contracts import Job
from darkroom.errors import RuntimeUnavailable


class Unreached(RuntimeUnavailable):
    """The runtime never got the request, so it cannot have been what ended it."""


class AnswerLost(RuntimeUnavailable):
    """The request was sent and no answer came: somebody may be working on it."""


class Inference(Protocol):
    """What the API does with a job it has accepted."""

    def submit(self, job: Job) -> Job:
        """Hand the job over; what it has become by then. Raises: DarkroomError, where nobody took it."""

    def withdraw(self, job: Job) -> None:
        """Tell whoever works on a cancelled job at once; without it they learn at their next beat."""


class QueuedInference:
    """The job store itself is the queue: workers claim from it and ask it at every beat, so nothing is left to do."""

    def submit(self, job: Job) -> Job:
        return job

    def withdraw(self, job: Job) -> None:
        pass
