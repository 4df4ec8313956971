"""What a directory of objects asks of the file system."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Unlike a rename it fails where there is one already. Raises: FileExistsError."""
    try:
        target.hardlink_to(source)
    except OSError as failed:
        if failed.errno not in (errno.EPERM, errno.ENOTSUP):  # not every shared file system has links
            raise
        if target.exists():
            raise FileExistsError from None
        source.replace(target)


def is_in_the_way(path: Path) -> bool:
    """Whether something that is no directory is there; not where a delete has since taken a directory away."""
    try:
        return not stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True


def sync_directory(directory: Path) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # emptied and removed by a delete meanwhile: there is nothing to make durable
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
