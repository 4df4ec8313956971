"""The whole one-machine deployment in a thread, around real or fake runtime processes."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from darkroom.settings import Settings
from darkroom.storage.directory import DirectoryStore
from local import data
from local.deployment import Deployment
from local.replicas.autoscaler import Clock
from local.replicas.replica import RUNTIME
from tests.fakes import bundle
from tests.fakes import runtime as fake

PATIENCE_SECONDS = 60


@dataclass
class Running:
    """A deployment that answers at `url`; `directory` steers its fake runtime."""

    deployment: Deployment
    loop: asyncio.AbstractEventLoop
    port: int
    directory: Path
    client: httpx.Client
    thread: threading.Thread
    lines: list[str] = field(default_factory=list)
    stopped: bool = False

    def predict(self, prompt: str, *, headers: dict[str, str] | None = None, **asked: Any) -> httpx.Response:
        return self.client.post("/v1/models/crayon:predict", json={"prompt": prompt, **asked}, headers=headers)

    def submit(self, prompt: str, **asked: Any) -> str:
        """The id of a job, accepted and not waited for."""
        answer = self.predict(prompt, headers={"Prefer": "respond-async"}, **asked)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def finished(self, job_id: str) -> dict[str, Any]:
        """The job, once its events have told that it has finished."""
        with self.client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
            assert any(line == "event: finished" for line in stream.iter_lines())
        return self.job(job_id)

    def exists(self, name: str) -> bool:
        return (self.directory / name).exists()

    @property
    def pid(self) -> int:
        """The process of the first runtime, once there is one."""
        return int(self.until(lambda: self.deployment.pool.replicas[0].pid))

    def touch(self, name: str) -> None:
        (self.directory / name).touch()

    def made(self) -> list[str]:
        """The job id of every image that a fake runtime has made."""
        path = self.directory / "made"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def until(self, done: Callable[[], Any]) -> Any:
        """What `done` gives as soon as it gives something."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := done()):
            assert time.monotonic() < deadline, "it never came about"
            time.sleep(0.01)
        return found

    def stop(self) -> None:
        """As SIGTERM does; a second one stops it at once."""
        self.stopped = True
        self.loop.call_soon_threadsafe(self.deployment.stop)

    def exchange(self, raw: bytes) -> bytes:
        """Raw bytes over a socket of their own, and all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(raw)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer


@contextmanager
def running(
    directory: Path,
    *,
    program: Sequence[str] | None = None,
    bundle_store: Path | None = None,
    clock: Clock | None = None,
    until_ready: bool = True,
    **given: Any,
) -> Iterator[Running]:
    """Start a deployment whose data lie under `directory`; `given` are settings. It is stopped at the end.

    Without `until_ready` it is given out at once. With `program=RUNTIME` and the store of a real bundle the runtime is
    the real one.
    """
    steering = directory / "steering"
    steering.mkdir(parents=True, exist_ok=True)
    if bundle_store is None:
        bundle_store = directory / "bundle"
        (directory / "scratch").mkdir(exist_ok=True)
        bundle.publish(DirectoryStore(bundle_store), directory / "scratch")
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    asked = {"bundle": str(bundle_store), "public_url": f"http://127.0.0.1:{port}", "lease_seconds": 2.0, **given}
    settings = data.prepare(Settings(data_dir=str(directory / "data"), **asked))
    lines: list[str] = []
    built: Future[tuple[Deployment, asyncio.AbstractEventLoop]] = Future()
    ended: Future[None] = Future()
    ready = threading.Event()

    async def serve() -> None:
        deployment = Deployment(
            settings,
            listener,
            announce=lambda _: ready.set(),
            emit=lines.append,
            program=program or (*fake.PROGRAM, str(steering)),
            clock=clock,
        )
        built.set_result((deployment, asyncio.get_running_loop()))
        await deployment.run()

    def run() -> None:
        try:
            asyncio.run(serve())
            ended.set_result(None)
        except BaseException as failed:
            ended.set_exception(failed)
            if not built.done():
                built.set_exception(failed)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="deployment")
    thread.start()
    deployment, loop = built.result(PATIENCE_SECONDS)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
        started = Running(deployment, loop, port, steering, client, thread, lines)
        try:
            assert not until_ready or ready.wait(PATIENCE_SECONDS), lines
            yield started
        finally:
            started.touch("go")
            if thread.is_alive() and not started.stopped:
                started.stop()
            ended.result(PATIENCE_SECONDS)
            thread.join()
            deployment.jobs.close()
            deployment.policies.close()


__all__ = ["RUNTIME", "Running", "running"]
