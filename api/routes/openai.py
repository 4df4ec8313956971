"""What OpenAI's clients ask for; it is imported when one of them does."""

from __future__ import annotations

from starlette.responses import Response

from api.answers import Written
from api.call import Call
from darkroom.errors import Problem


async def generations(call: Call) -> Response:
    """POST /v1/images/generations"""
    from api.clients import openai

    return await openai.generations(call)


async def edits(call: Call) -> Response:
    """POST /v1/images/edits"""
    from api.clients import openai

    return await openai.edits(call)


def written(problem: Problem) -> Written:
    """An error, as these clients read it."""
    from api.clients import openai_errors

    return openai_errors.written(problem)
