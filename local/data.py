"""The data directory: bundles, images, jobs and the signing key, kept between starts."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from darkroom.settings import Settings
from local.errors import CannotStart

_KEY_FILE = "signing.key"


def prepare(settings: Settings) -> Settings:
    """Make the directory, and fill in what depends on it: store, jobs and signing key, unless they were given.

    Raises: CannotStart.
    """
    directory = Path(settings.data_dir).resolve()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("store", "cache"):  # an older release made them for everybody to read
            if (directory / name).is_dir():
                (directory / name).chmod(0o700)
        key = settings.signing_key or _signing_key(directory / _KEY_FILE)
        _check_writable(directory)
    except OSError as refused:
        reason = (refused.strerror or "it cannot be used").lower()
        raise CannotStart(
            f"{directory} cannot be written ({reason}): set DARKROOM_DATA_DIR to a directory that can."
        ) from None
    given = settings.model_fields_set
    return settings.model_copy(
        update={
            "data_dir": str(directory),
            "signing_key": key,
            "store_url": settings.store_url if "store_url" in given else f"file://{directory / 'store'}",
            "jobs_url": settings.jobs_url if "jobs_url" in given else f"sqlite:///{directory / 'jobs.db'}",
        }
    )


def _signing_key(path: Path) -> str:
    """The key of this data directory, drawn once and readable by its owner only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if kept := path.read_text().strip():
            return kept
        path.unlink()  # a crash between creating and writing it
        return _signing_key(path)
    key = secrets.token_hex(32)
    with os.fdopen(descriptor, "w") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


def _check_writable(directory: Path) -> None:
    probe = directory / f".probe-{os.getpid()}"
    probe.write_bytes(b"")
    probe.unlink()
