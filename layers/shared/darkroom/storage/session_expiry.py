"""How long a presigned URL can work: no longer than the session of the credentials that sign it."""

from __future__ import annotations

from typing import Any

# Of a session that does not say when it ends. Lambda gives a function's role by variables that have no expiry; an hour
# is the default length of a session of a role (AssumeRole, DurationSeconds, in the STS API Reference).
UNKNOWN_SECONDS = 3600


def capped(expires: int, credentials: Any, now: float) -> int:
    """`expires` seconds, or as many as are left of the session at `now` (seconds since the epoch); at least one.

    `credentials` are botocore's: those without a token have no session, and do not end.
    """
    if credentials is None or not credentials.token:
        return expires
    ends = getattr(credentials, "_expiry_time", None)  # what botocore itself refreshes by; it has no public name
    left = UNKNOWN_SECONDS if ends is None else int(ends.timestamp() - now)
    return max(1, min(expires, left))
