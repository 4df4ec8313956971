"""What AUTOMATIC1111's clients ask for; it is imported when one of them does."""

from __future__ import annotations

from starlette.responses import Response

from api.answers import Written
from api.call import Call
from api.clients.web_ui_addresses import LISTS as LISTS
from api.clients.web_ui_addresses import PREFIX as PREFIX
from darkroom.errors import Problem


async def txt2img(call: Call) -> Response:
    """POST /sdapi/v1/txt2img"""
    from api.clients import a1111

    return await a1111.txt2img(call)


async def img2img(call: Call) -> Response:
    """POST /sdapi/v1/img2img"""
    from api.clients import a1111

    return await a1111.img2img(call)


def look(call: Call) -> Response:
    """GET of one of `LISTS`"""
    from api.clients import a1111_lists

    return a1111_lists.look(call)


def set_options(call: Call) -> Response:
    """POST /sdapi/v1/options"""
    from api.clients import a1111_lists

    return a1111_lists.set_options(call)


def interrupt(call: Call) -> Response:
    """POST /sdapi/v1/interrupt"""
    from api.clients import a1111_lists

    return a1111_lists.interrupt(call)


def written(problem: Problem) -> Written:
    """An error, as these clients read it."""
    from api.clients import a1111

    return a1111.written(problem)
