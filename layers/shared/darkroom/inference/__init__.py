"""Inference: where an accepted job is sent. `http` reaches a runtime directly (one machine, Kubernetes)."""

from __future__ import annotations

from typing import Protocol

from darkroom.contracts import Job


class Inference(Protocol):
    """What the API does with a job it has accepted."""

    def submit(self, job: Job) -> None:
        """Hand the job over without waiting for it."""

    def withdraw(self, job: Job) -> None:
        """Tell whoever works on a cancelled job at once; without it they learn at their next beat."""


class QueuedInference:
    """The job store itself is the queue: workers claim from it and ask it at every beat, so nothing is left to do."""

    def submit(self, job: Job) -> None:
        pass

    def withdraw(self, job: Job) -> None:
        pass
