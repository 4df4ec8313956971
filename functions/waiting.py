"""Waiting in Lambda: each caller who waits holds one of the account's concurrent executions, which others need too."""

from __future__ import annotations

from collections.abc import Callable

from api.services import Services
from api.waiting import Wait
from darkroom.contracts import Job


def bounded(wait: Wait, unfinished: Callable[[int], int], most: int) -> Wait:
    """A wait that ends at once where more than `most` jobs have not finished: the caller gets 202 and asks again.

    Whoever waits has a job that has not finished, so no more than `most` wait, but for those who came in the same
    moment. `unfinished` counts, up to a number beyond which it does not matter. Raises: JobStoreUnavailable.
    """

    async def first(job: Job, seconds: float) -> Job:
        crowded = not job.status.finished and unfinished(most + 1) > most
        return await wait(job, 0.0 if crowded else seconds)

    return first


def leaving_room(services: Services) -> Wait:
    """The services' wait, bounded by the setting `max_waiting` where jobs end by other executions of the account."""
    from darkroom.jobs.dynamodb import DynamoJobStore

    jobs, most = services.jobs, services.settings.max_waiting
    return bounded(services.wait, jobs.queued, most) if most and isinstance(jobs, DynamoJobStore) else services.wait
