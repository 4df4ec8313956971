"""Where finished images lie, by the job that they were made for."""

from __future__ import annotations

from darkroom.storage import ObjectStore

PREFIX = "images/"


def folder(job_id: str) -> str:
    """What the keys of all that was made for a job begin with."""
    return f"{PREFIX}{job_id}/"


def image_key(job_id: str, index: int, extension: str) -> str:
    """Depends on nothing but the job, so that a retry overwrites an image with itself."""
    return f"{folder(job_id)}{index}.{extension}"


def control_key(job_id: str, index: int) -> str:
    """Of the control image of the request's `index`th ControlNet; always a PNG."""
    return f"{folder(job_id)}control-{index}.png"


def forget(store: ObjectStore, job_id: str) -> None:
    """Delete all that was made for a job. Raises: StorageUnavailable."""
    for key in list(store.keys(folder(job_id))):
        store.delete(key)


def purge(store: ObjectStore, *, made_before: float) -> int:
    """Delete the images that were stored before an instant, in seconds since the epoch; how many there were.

    Raises: StorageUnavailable.
    """
    purged = 0
    for key in store.changed_before(PREFIX, made_before):
        store.delete(key)
        purged += 1
    return purged
