"""Which keys an object may have, in every store alike."""

from __future__ import annotations

MAX_KEY_BYTES = 1024  # S3's limit
MAX_SEGMENT_BYTES = 255  # a file name's limit on Linux


def is_valid(key: str) -> bool:
    """Whether `key` is a relative POSIX path that stays where it is put.

    No empty segment (so neither absolute nor ending in a slash), no segment that begins with a dot (neither `..` nor
    hidden), no backslash, no control character, nothing that UTF-8 cannot encode.
    """
    try:
        segments = [segment.encode() for segment in key.split("/")]
    except UnicodeEncodeError:
        return False
    return (
        len(key.encode()) <= MAX_KEY_BYTES
        and "\\" not in key
        and all(character >= " " and character != "\x7f" for character in key)
        and all(0 < len(segment) <= MAX_SEGMENT_BYTES and not segment.startswith(b".") for segment in segments)
    )


def check(key: str) -> str:
    """The key itself. Raises ValueError where it is not valid."""
    if not is_valid(key):
        raise ValueError("an object key must be a relative path of visible names")
    return key
