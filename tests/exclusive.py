"""One at a time, where processes share a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other run of the tests, and no other worker of this one, is in here."""
    with (folder / "tests.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
