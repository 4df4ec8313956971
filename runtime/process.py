"""The process around the replica: its socket, its signals, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from functools import partial

import structlog
import uvicorn

from darkroom.errors import DarkroomError
from darkroom.storage import ObjectStore, open_store
from runtime.bundle import fetch_bundle, kept_graphs, load_bundle
from runtime.config import RuntimeConfig
from runtime.engines import open_engine
from runtime.hardware import this_machine
from runtime.metrics import Metrics
from runtime.mounted import bundles
from runtime.replica import Replica
from runtime.server import build_app
from runtime.service import Service

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections: who closes second never loses a request
_WATCH_SECONDS = 1.0
_FLUSH_SECONDS = 2  # for answers on their way when the server stops
_LAST_STEP_SECONDS = 2.0


class StartError(Exception):
    """One sentence for the operator."""


def serve(config: RuntimeConfig) -> None:
    """Serve until a signal ends it.

    A thread may be left in a call that nothing can interrupt: a compilation, a hung step, an upload to a store that
    does not answer. So the caller must end the process without waiting for threads.

    Raises: StartError.
    """
    asyncio.run(_serve(config))


async def _serve(config: RuntimeConfig) -> None:
    metrics = Metrics()
    store = _open_store("STORE_URL", config.store_url)
    images = _open_store("IMAGES_URL", config.images_url) if config.images_url else store
    listening = _listen(config)
    events = asyncio.get_running_loop()

    def load() -> Service:
        machine = this_machine()
        source = bundles(config.bundle_dir, store)
        bundle = fetch_bundle(
            source, config.model, config.version, config.target, machine, config.cache_dir, config.trusted
        )
        opener = partial(
            open_engine,
            gpu_bytes=machine.gpu_bytes(config.gpu_memory_fraction),
            kept=kept_graphs(bundle, machine, config.cache_dir, config.compiled_mb),
            gpu_graphs=config.gpu_graphs,
        )
        loaded = load_bundle(bundle, config.thread_count, opener)
        return Service(loaded, config, images, metrics, time.monotonic, time.sleep)

    replica = Replica(load, metrics, on_failure=lambda: events.call_soon_threadsafe(server.leave))
    server = _Server(
        uvicorn.Config(
            build_app(replica, config, metrics),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_FLUSH_SECONDS,
        )
    )
    shutdown = _Shutdown(replica, config.drain_seconds, server.leave)
    for number in (signal.SIGTERM, signal.SIGINT):
        events.add_signal_handler(number, shutdown.on_signal)
    replica.start()
    watching = asyncio.create_task(_watch(replica))
    await server.serve([listening])
    watching.cancel()
    await asyncio.to_thread(replica.stop, _LAST_STEP_SECONDS)
    if replica.failure is not None:
        raise StartError(replica.failure)


class _Server(uvicorn.Server):
    """Leaves signals to this process: uvicorn would close the socket before the work in flight is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def leave(self) -> None:
        self.should_exit = True


class _Shutdown:
    """A first signal lets the work in flight finish and then stops the server; a second one waits for nothing."""

    def __init__(self, replica: Replica, drain_seconds: float, leave: Callable[[], None]) -> None:
        self._replica = replica
        self._drain_seconds = drain_seconds
        self._leave = leave
        self._draining: asyncio.Task[None] | None = None

    def on_signal(self) -> None:
        structlog.get_logger().info("draining", again=self._draining is not None)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        else:
            self._replica.drain(0)

    async def _drain(self) -> None:
        await asyncio.to_thread(self._replica.drain, self._drain_seconds)
        self._leave()


async def _watch(replica: Replica) -> None:
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        replica.watch()


def _open_store(variable: str, url: str) -> ObjectStore:
    try:
        return open_store(url)
    except (ValueError, DarkroomError) as refused:
        raise StartError(f"RUNTIME_{variable}: {refused}") from None


def _listen(config: RuntimeConfig) -> socket.socket:
    """The inherited socket, or a new one on the configured address."""
    try:
        if config.fd is not None:
            return socket.socket(fileno=config.fd)
        return socket.create_server((config.host, config.port), backlog=_BACKLOG)
    except OSError as refused:
        place = f"{config.host}:{config.port}" if config.fd is None else f"RUNTIME_FD {config.fd}"
        raise StartError(f"The runtime cannot listen on {place}: {os.strerror(refused.errno or 0)}.") from None
