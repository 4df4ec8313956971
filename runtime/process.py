"""The process around the replica: its socket, its signals, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial

import structlog
import uvicorn

from darkroom import gpu
from darkroom.errors import DarkroomError
from darkroom.storage import ObjectStore, open_store
from runtime.bundles.bundle import fetch_bundle, kept_graphs, load_bundle, static_shapes
from runtime.bundles.hardware import this_machine
from runtime.bundles.mounted import bundles
from runtime.config import RuntimeConfig
from runtime.denoising.autoencoder import tile_beyond
from runtime.engines import open_engine
from runtime.metrics import Metrics
from runtime.serving.engine_thread import EngineThread
from runtime.serving.server import build_app
from runtime.serving.service import Service
from runtime.serving.turns import ALONE, Turns

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections: who closes second never loses a request
_WATCH_SECONDS = 1.0
_FLUSH_SECONDS = 2  # for answers on their way when the server stops
_LAST_STEP_SECONDS = 2.0


class StartError(Exception):
    """One sentence for the operator."""


class StartAgain(StartError):
    """What kept it from starting may have passed at another try: memory ran out, or the store did not answer."""


def serve(config: RuntimeConfig) -> None:
    """Serve until a signal ends it.

    A thread may be left in a call that nothing can interrupt: a compilation, a hung step, an upload to a store that
    does not answer. So the caller must end the process without waiting for threads.

    Raises: StartError, StartAgain.
    """
    asyncio.run(_serve(config))


async def _serve(config: RuntimeConfig) -> None:
    store = _open_store("STORE_URL", config.store_url)
    images = _open_store("IMAGES_URL", config.images_url) if config.images_url else store
    listening = _listen(config)
    events = asyncio.get_running_loop()

    turns = Turns(time.monotonic)
    sharing = gpu.keep_to(config.gpu_memory_fraction, os.environ, gpu.memory_asked_elsewhere)
    if sharing is not None:
        structlog.get_logger().info("shared GPU", mps=str(sharing), memory_fraction=config.gpu_memory_fraction)

    def load(model: str, metrics: Metrics) -> Service:
        machine = this_machine()
        source = bundles(config.bundle_dir, store)
        version = config.version if model == config.model else None
        bundle = fetch_bundle(source, model, version, config.target, machine, config.cache_dir, config.trusted)
        threads = config.thread_count
        tiles = tile_beyond(config.tile_beyond, bundle.target)
        static = static_shapes(bundle, threads, config.max_rows, config.static_mb // len(config.served), tiles)
        opener = partial(
            open_engine,
            gpu_bytes=machine.gpu_bytes(config.gpu_memory_fraction, len(config.served)),
            gpu_graphs=config.gpu_graphs,
            kept=kept_graphs(bundle, machine, config.cache_dir, config.compiled_mb),
            static=static,
        )
        loaded = load_bundle(bundle, threads, opener)
        seat = turns.seat(model) if len(config.served) > 1 else ALONE
        return Service(loaded, config, images, metrics, time.monotonic, time.sleep, seat)

    def replica(model: str) -> EngineThread:
        metrics = Metrics()
        return EngineThread(
            partial(load, model, metrics), metrics, on_failure=lambda: events.call_soon_threadsafe(server.leave)
        )

    replicas = {model: replica(model) for model in config.served}
    server = _Server(
        uvicorn.Config(
            build_app(replicas, config),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_FLUSH_SECONDS,
        )
    )
    shutdown = _Shutdown(list(replicas.values()), config.drain_seconds, server.leave)
    for number in (signal.SIGTERM, signal.SIGINT):
        events.add_signal_handler(number, shutdown.on_signal)
    for each in replicas.values():
        each.start()
    watching = asyncio.create_task(_watch(list(replicas.values())))
    await server.serve([listening])
    watching.cancel()
    await asyncio.gather(*(asyncio.to_thread(each.stop, _LAST_STEP_SECONDS) for each in replicas.values()))
    for each in replicas.values():
        if each.failure is not None:
            raise (StartAgain if each.may_pass else StartError)(each.failure)


class _Server(uvicorn.Server):
    """Leaves signals to this process: uvicorn would close the socket before the work in flight is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def leave(self) -> None:
        self.should_exit = True


class _Shutdown:
    """A first signal lets the work in flight finish and then stops the server; a second one waits for nothing."""

    def __init__(self, replicas: Sequence[EngineThread], drain_seconds: float, leave: Callable[[], None]) -> None:
        self._replicas = replicas
        self._drain_seconds = drain_seconds
        self._leave = leave
        self._draining: asyncio.Task[None] | None = None

    def on_signal(self) -> None:
        structlog.get_logger().info("draining", again=self._draining is not None)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        else:
            for replica in self._replicas:
                replica.drain(0)

    async def _drain(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(each.drain, self._drain_seconds) for each in self._replicas))
        self._leave()


async def _watch(replicas: Sequence[EngineThread]) -> None:
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        for replica in replicas:
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
