"""Opening what other services keep for this machine: where it cannot be done, one sentence says which and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.errors import DarkroomError
from local.errors import CannotStart

_EXTRAS = {"psycopg": "postgres", "boto3": "s3", "botocore": "s3"}  # by the module that is missing
_LONGEST = 300


@contextmanager
def opening(setting: str) -> Iterator[None]:
    """Raises: CannotStart, naming the setting and the innermost cause, whose own words name no secret."""
    try:
        yield
    except DarkroomError as failed:
        raise CannotStart(f"{failed.detail.rstrip('.')} ({_why(failed)}): look at {setting}.") from failed
    except ValueError as refused:  # a URL that names no store
        raise CannotStart(f"{setting}: {refused}.") from refused
    except ModuleNotFoundError as missing:
        extra = _EXTRAS.get((missing.name or "").partition(".")[0])
        if extra is None:
            raise
        raise CannotStart(f"{setting} needs {missing.name}: install 'darkroom[{extra}]'.") from missing


def _why(failed: BaseException) -> str:
    """The first line of what began it: a driver's or a client's error."""
    while failed.__cause__ is not None:
        failed = failed.__cause__
    return str(failed).strip().partition("\n")[0].rstrip(".")[:_LONGEST] or type(failed).__name__
