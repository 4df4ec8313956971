"""`/v1/images/{id}`: a finished image itself, for whoever made it; its address never expires."""

from __future__ import annotations

import re

from starlette.responses import Response

from api import submission
from api.call import Call
from darkroom.errors import ImageNotFound, JobNotFound, ObjectNotFound

_ID = re.compile(r"(?P<job>[A-Za-z0-9_-]{1,64})-(?P<index>[0-7])")


def get(call: Call) -> Response:
    """GET /v1/images/{id}: `{job}-0` is the first image of a job.

    Raises: ImageNotFound, also for another tenant's; JobStoreUnavailable, StorageUnavailable.
    """
    named = _ID.fullmatch(call.params["id"])
    try:
        result = call.services.jobs.get(named["job"], tenant=call.tenant).result if named else None
        if named is None or result is None:
            raise ImageNotFound
        image = result.images[int(named["index"])]
        headers = {"ETag": f'"{image.sha256}"', "Cache-Control": "private, no-cache"}
        if submission.not_modified(call.headers, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(call.services.store.get(image.key), headers=headers, media_type=image.content_type)
    except (JobNotFound, IndexError, ObjectNotFound):
        raise ImageNotFound from None
