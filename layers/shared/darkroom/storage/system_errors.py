"""The operating system's errors in the words of a store."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.errors import StorageFull, StorageUnavailable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def translated() -> Iterator[None]:
    """OSError -> StorageFull where there is no room (disk, quota, file-size limit), else StorageUnavailable."""
    try:
        yield
    except OSError as failed:
        raise (StorageFull if failed.errno in _FULL else StorageUnavailable) from failed
