"""A real Postgres on a Unix socket, for as long as tests need one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")  # Debian keeps the server's programs of each version here, off PATH


def programs(debian: Path = DEBIAN) -> Path | None:
    """The folder of `initdb` and `pg_ctl`: Debian's newest, or the one on PATH; None without any."""
    folders = sorted(
        debian.glob("*/bin"), key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.parent.name)]
    )
    found = shutil.which("initdb")
    candidates = [*reversed(folders), *([Path(found).resolve().parent] if found else [])]
    return next((one for one in candidates if (one / "initdb").exists() and (one / "pg_ctl").exists()), None)


def missing() -> str | None:
    """What tests would need installed to have a Postgres; None where nothing is missing."""
    if programs() is None:
        return "needs Postgres' initdb and pg_ctl: apt-get install postgresql"
    return None if find_spec("psycopg") else "needs psycopg: pip install 'darkroom[postgres]'"


@contextmanager
def serving() -> Iterator[str]:
    """The URL of a server of its own, which listens on no port and is stopped at the end, with its data."""
    folder = programs()
    assert folder, "look at missing() first"
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        if user:
            shutil.chown(data, user)

        def run(program: str, *arguments: str) -> None:
            command = [str(folder / program), "-D", data, *arguments]
            subprocess.run(command, user=user, cwd=data, stdout=subprocess.DEVNULL, check=True)

        options = f"-c listen_addresses='' -c unix_socket_directories={data} -c fsync=off"
        run("initdb", "-U", "darkroom", "-A", "trust", "-E", "UTF8", "-N")
        run("pg_ctl", "-w", "-l", f"{data}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://darkroom@/postgres?host={data}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
