"""`:predict` as KServe V1's, Imagen's and Hugging Face's clients call it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from api import accepting
from api.answers import answer
from api.call import Call
from api.clients import pictures
from api.clients.predict_bodies import Form, understood
from api.schemas.jobs import problem_of
from darkroom.contracts import GenerationRequest, Job
from darkroom.errors import DarkroomError, InvalidParameter
from darkroom.parsing import parse_request


async def answered(call: Call, value: Any) -> Response:
    """The images themselves, once all of them are made: these clients know no promise of them.

    Where one request of several is refused or fails, that is the answer, and the others are cancelled.
    Raises: StillAtWork; what reading and accepting a request raise.
    """
    services = call.services
    form, requests = await services.turns.take(call.tenant, _read, call, value)
    jobs: list[Job] = []
    try:
        for request in requests:
            jobs.append(await services.run(_created, call, request))
    except DarkroomError:
        await services.run(accepting.cancel, services, jobs)
        raise
    del value, requests, request
    await call.forget_body()
    kept = "idempotency-key" in call.headers
    jobs = await accepting.waited_for(call, jobs, services.settings.max_wait_seconds, kept=kept)
    for job in jobs:
        if not job.status.finished:
            raise pictures.still_at_work(job)
        if job.result is None:
            await services.run(accepting.cancel, services, jobs)
            return call.answers.problem(problem_of(job))
    if form == "inputs":
        return await services.run(pictures.picture, call, jobs[0])
    return answer(200, await services.run(pictures.predictions, call, jobs))


def _read(call: Call, value: Any) -> tuple[Form, list[GenerationRequest]]:
    body, requests = understood(value), []
    for number, one in enumerate(body.requests):
        try:
            request = parse_request(one)
        except DarkroomError as refused:
            refused.field = body.field_of(refused.field, number)
            raise
        if body.form == "inputs":
            request = pictures.alone(request, call.headers, "/parameters/num_images")
        requests.append(request)
    if len(requests) > 1 and "idempotency-key" in call.headers:
        raise InvalidParameter("An Idempotency-Key is for one instance.", field="/instances")
    return body.form, requests


def _created(call: Call, request: GenerationRequest) -> Job:
    return accepting.accepted(call, call.manifest(), request).job
