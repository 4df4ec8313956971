"""A finished image as the image of another request: `job:ID/0`, or the URL that its job was answered with."""

from __future__ import annotations

import re
import time

from darkroom.contracts import GenerationRequest
from darkroom.errors import ImageUrlRejected, JobNotFound, ObjectNotFound
from darkroom.images import uploads
from darkroom.images.source import of_a_job
from darkroom.jobs import JobStore
from darkroom.storage import ObjectStore

_URL = re.compile(
    r"(?P<place>https?://[^?#]*images/(?P<job>[A-Za-z0-9_-]{1,64})/(?P<index>[0-7])\.[a-z]{3,4})(?:\?.*)?"
)


def taken(
    jobs: JobStore, store: ObjectStore, request: GenerationRequest, tenant: str
) -> tuple[GenerationRequest, dict[str, bytes]]:
    """The request with each finished image of its tenant named as an upload, and their bytes by that reference.

    An URL of ours that has expired is good as well: whose image it is counts, not who signed it. Any other URL stays
    as it is. Raises: ImageUrlRejected; JobStoreUnavailable, StorageUnavailable.
    """
    files: dict[str, bytes] = {}

    def own(source: str) -> str:
        named, url = of_a_job(source), _URL.fullmatch(source[:2000])
        key = None
        if named is not None:
            key = _key(jobs, tenant, *named)
        elif url is not None:
            key = _key(jobs, tenant, url["job"], int(url["index"]))
            if key is not None and store.url(key, expires=1).partition("?")[0] != url["place"]:
                key = None
        if key is None and named is None:
            return source
        try:
            if key is None:
                raise ObjectNotFound
            image = store.get(key)
        except ObjectNotFound:
            raise ImageUrlRejected("There is no such image of a finished job of yours.") from None
        reference = uploads.reference(uploads.new_id(time.time()))
        files[reference] = image
        return reference

    return request.with_sources(own), files


def _key(jobs: JobStore, tenant: str, job_id: str, index: int) -> str | None:
    """Where the image lies; None where this tenant has none of that name."""
    try:
        job = jobs.get(job_id, tenant=tenant)
    except JobNotFound:
        return None
    return job.result.images[index].key if job.result and index < len(job.result.images) else None
