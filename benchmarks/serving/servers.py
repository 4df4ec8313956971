"""Servers of crayon behind HTTP on this machine: the runtime, and LitServe around a diffusers pipeline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measure import ROOT, free_port
from benchmarks.peers import environment as peers
from benchmarks.serving.poisson import Answered, Arrival
from benchmarks.subjects.engine import BUNDLE, CHECKPOINT

PROMPT = "a large red heart on a blue background"
_READY_WITHIN, _ANSWER_WITHIN = 300.0, 1800.0


@dataclass(frozen=True)
class PeerServer:
    """How to start one on `port`, where it says that it is ready, and what a request of so many steps is."""

    name: str
    command: Sequence[str]
    port: int
    health: str
    path: str
    body: Callable[[int, int], Mapping[str, Any]]
    environment: Mapping[str, str] = field(default_factory=dict)


class ServerDied(Exception):
    """A server's process ended, or was not ready in time."""


def darkroom(target: str, rows: int, data: Path) -> PeerServer:
    """The runtime as a replica runs it, without its cache: all requests are alike."""
    port = free_port()
    settings = {"STORE_URL": BUNDLE.as_uri(), "IMAGES_URL": data.as_uri(), "CACHE": "off", "LOG_LEVEL": "error"}
    settings |= {"TARGET": target, "MAX_ROWS": str(rows), "MAX_QUEUE": "1024", "PORT": str(port)}

    def body(number: int, steps: int) -> Mapping[str, Any]:
        request = {"prompt": PROMPT, "num_inference_steps": steps, "guidance_scale": 4.0, "seed": number}
        return {"id": f"{time.monotonic_ns()}-{number}", "request": request}

    return PeerServer(
        *("darkroom", [sys.executable, "-m", "runtime"], port, "/ping", "/invocations", body),
        {f"RUNTIME_{name}": value for name, value in settings.items()},
    )


def litserve(images: int) -> PeerServer:
    """LitServe in the peers' environment, with at most so many images in a batch."""
    port = free_port()
    script = Path(__file__).with_name("lit_server.py")
    command = [str(part) for part in (peers.PYTHON, script, CHECKPOINT, port, images)]

    def body(_: int, steps: int) -> Mapping[str, Any]:
        return {"prompt": PROMPT, "steps": steps}

    return PeerServer("LitServe + diffusers", command, port, "/health", "/predict", body)


@contextmanager
def running(server: PeerServer) -> Iterator[httpx.Client]:
    """A client of the started and ready server, which ends with all that it has started. Raises: ServerDied."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "layers" / "shared")))
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", **server.environment}
    unlimited = httpx.Limits(max_connections=None)
    with (
        subprocess.Popen(server.command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as child,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=_ANSWER_WITHIN, limits=unlimited) as client,
    ):
        try:
            _await_ready(server, child, client)
            yield client
        finally:
            with suppress(ProcessLookupError):  # it has ended, and all that it had started
                os.killpg(child.pid, signal.SIGKILL)


def _await_ready(server: PeerServer, child: subprocess.Popen[bytes], client: httpx.Client) -> None:
    until = time.monotonic() + _READY_WITHIN
    while time.monotonic() < until:
        if child.poll() is not None:
            raise ServerDied(f"{server.name}: exit status {child.returncode}")
        try:
            if client.get(server.health).is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.2)
    raise ServerDied(f"{server.name}: not ready in {_READY_WITHIN:g} s")


def answers(server: PeerServer, client: httpx.Client, arrivals: Sequence[Arrival]) -> list[Answered]:
    """Send every request when it is due, whoever still waits. Raises: httpx.HTTPError for an answer that is none."""
    begun = time.perf_counter()

    def ask(number: int, arrival: Arrival) -> Answered:
        client.post(server.path, json=server.body(number, arrival.steps)).raise_for_status()
        return Answered(arrival.steps, time.perf_counter() - begun - arrival.at)

    with ThreadPoolExecutor(len(arrivals)) as pool:
        waiting = []
        for number, arrival in enumerate(arrivals):
            time.sleep(max(0.0, begun + arrival.at - time.perf_counter()))
            waiting.append(pool.submit(ask, number, arrival))
        return [each.result() for each in waiting]
