"""Whose job is next: each tenant gets an equal share of the work, however much it sends.

Self-clocked fair queueing (Golestani, "A self-clocked fair queueing scheme for broadband applications", INFOCOM 1994):
a job is tagged when it is accepted with the virtual time at which it would end if all tenants were served side by
side, bit by bit; the one with the least tag is next. Virtual time is the tag of what was begun last. So a tenant's
first job waits for one job of another's at most, and within a tenant jobs keep their order.
"""

from __future__ import annotations

from darkroom.contracts import GenerationRequest

_PIXELS = 4096  # of one unit of work: 64 x 64, so that the smallest image counts
_STEPS, _SIDE = 25, 512  # of a request that was not resolved


def work_of(request: GenerationRequest) -> int:
    """What a request takes of a runtime, in steps of 64 x 64 pixels; at least 1."""
    pixels = (request.width or _SIDE) * (request.height or _SIDE)
    return max(1, request.num_images * (request.num_inference_steps or _STEPS) * pixels // _PIXELS)


def tag(work: int, own: int, now: int) -> int:
    """The tag of a job that takes so much work; `own` is the last tag of its tenant's unfinished jobs (0: it has none),
    `now` virtual time."""
    return max(now, own) + work
