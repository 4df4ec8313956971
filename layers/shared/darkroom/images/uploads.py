"""`upload:<id>`: an image that was sent to the object store beforehand, and is its tenant's only."""

from __future__ import annotations

import hashlib
import re
import secrets

from darkroom.storage import ObjectStore

PREFIX = "uploads/"
_SCHEME = "upload:"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{32}")  # when it was made, in seconds since the epoch, and what nobody guesses


def new_id(now: float) -> str:
    """An id that tells its age; `now` is in seconds since the epoch."""
    return f"{int(now):08x}-{secrets.token_hex(16)}"


def reference(upload_id: str) -> str:
    """What a request's `image` says to mean this upload."""
    return f"{_SCHEME}{upload_id}"


def is_reference(source: str) -> bool:
    return source.startswith(_SCHEME)


def folder(tenant: str) -> str:
    """What the keys of a tenant's uploads begin with; it tells nobody who that is."""
    return f"{PREFIX}{hashlib.sha256(tenant.encode()).hexdigest()[:32]}/"


def key(tenant: str, upload_id: str) -> str:
    """Where an upload lies."""
    return folder(tenant) + upload_id


def key_of(tenant: str, source: str) -> str | None:
    """The key of what `upload:<id>` names; None where that is no upload's id."""
    upload_id = source.removeprefix(_SCHEME)
    return key(tenant, upload_id) if _ID.fullmatch(upload_id) else None


def purge(store: ObjectStore, *, made_before: float) -> int:
    """Delete the uploads whose ids were given out before an instant, in seconds since the epoch; how many there were.

    Raises: StorageUnavailable.
    """
    purged = 0
    for stored in store.keys(PREFIX):
        upload_id = stored.rpartition("/")[2]
        if _ID.fullmatch(upload_id) and int(upload_id[:8], 16) < made_before:
            store.delete(stored)
            purged += 1
    return purged
