"""Inference: where an accepted job is sent. `http` reaches a runtime directly (one machine, Kubernetes)."""

from __future__ import annotations

from typing import Protocol

from darkroom.contracts import Job


class Inference(Protocol):
    """What the API does with a job it has accepted."""

    def submit(self, job: Job) -> None:
        """Hand the job over without waiting for it."""


class QueuedInference:
    """The job store itself is the queue: workers claim from it, so there is nothing left to hand over."""

    def submit(self, job: Job) -> None:
        pass
