"""The one-machine deployment as its user starts it: `python -m local`, real runtime, the bundled crayon."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.fakes.remote import Remote, serving

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 120


@dataclass
class Deployment:
    """A running deployment, all lines it has printed, and a client of it."""

    process: subprocess.Popen[str]
    client: httpx.Client
    lines: list[str] = field(default_factory=list)
    arrived: "queue.Queue[str | None]" = field(default_factory=queue.Queue)

    def read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            self.arrived.put(line)
        self.arrived.put(None)

    def wait_for(self, wanted: Callable[[str], bool]) -> str:
        """The next line that is wanted."""
        while (line := self.arrived.get(timeout=START_SECONDS)) is not None:
            if wanted(line):
                return line
        raise AssertionError("".join(self.lines))

    def runtime_pids(self) -> list[int]:
        found = subprocess.run(["pgrep", "-P", str(self.process.pid), "-f", "runtime"], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    """A web server on this machine, the one address of it that the runtime may fetch from."""
    with serving() as remote:
        yield remote


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, remote: Remote) -> Iterator[Deployment]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PORT": str(port),
        "RUNTIME_FETCH_ALLOW": f"127.0.0.1:{remote.port}",
        "DARKROOM_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'shared'}",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "local"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        running = Deployment(process, client)
        reader = threading.Thread(target=running.read, daemon=True)
        reader.start()
        try:
            running.wait_for(lambda line: "ready" in line.lower() and str(port) in line)
            yield running
        finally:  # whatever came of it: a process left behind is reported in some other test
            process.send_signal(signal.SIGTERM)
            ended = process.wait(timeout=60)
            reader.join(timeout=10)
            assert process.stdout
            process.stdout.close()
    assert ended == 0, "".join(running.lines[-20:])
