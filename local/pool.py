"""The runtimes of this machine, each with the dispatcher that feeds it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from darkroom.jobs import JobStore
from darkroom.settings import Settings
from functions.documents import Health
from local.bulletin import Bulletin
from local.dispatcher import Dispatcher
from local.replica import RUNTIME, Replica, RuntimeDidNotStart


class Pool:
    """`settings.runtimes` replicas of the default model, sharing this machine's processors."""

    def __init__(
        self,
        settings: Settings,
        jobs: JobStore,
        bulletin: Bulletin,
        *,
        emit: Callable[[str], None],
        program: Sequence[str] = RUNTIME,
    ) -> None:
        self.draining = False
        self.replicas: list[Replica] = []
        self.dispatchers: list[Dispatcher] = []
        self._changed = asyncio.Event()
        for number in range(settings.runtimes):
            name = f"runtime-{number}"
            replica = Replica(
                name,
                runtime_environment(settings),
                on_ready=lambda ready, number=number: self._on_ready(number, ready),  # type: ignore[misc]
                emit=emit,
                program=program,
            )
            self.replicas.append(replica)
            self.dispatchers.append(Dispatcher(jobs, replica.runtime, bulletin, settings, name=f"{os.getpid()}-{name}"))

    async def run(self) -> None:
        """Run until `drain` or `abort`; returns when every process and every attempt has ended.

        Raises: RuntimeDidNotStart.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for replica in self.replicas:
                    group.create_task(replica.run())
                for dispatcher in self.dispatchers:
                    group.create_task(dispatcher.run())
        except* RuntimeDidNotStart as failed:
            raise failed.exceptions[0] from None
        finally:
            for replica in self.replicas:
                await replica.runtime.close()

    async def ready(self) -> None:
        """Returns once any replica is ready."""
        while not any(replica.readiness.ready for replica in self.replicas):
            self._changed.clear()
            await self._changed.wait()

    def drain(self) -> None:
        """Claim nothing more; let what is in flight finish, or come back as `draining` and be queued again."""
        self.draining = True
        for dispatcher in self.dispatchers:
            dispatcher.stop()
        for replica in self.replicas:
            replica.drain()

    def abort(self) -> None:
        """Stop now; what was in flight goes back into the queue."""
        self.draining = True
        for dispatcher in self.dispatchers:
            dispatcher.abort()
        for replica in self.replicas:
            replica.kill()

    def health(self) -> Health:
        if self.draining:
            return Health(status="draining")
        ready = any(replica.readiness.ready for replica in self.replicas)
        return Health(status="ready" if ready else "starting")

    def _on_ready(self, number: int, ready: bool) -> None:
        available = self.dispatchers[number].available
        if ready:
            available.set()
        elif not self.draining:
            available.clear()
        self._changed.set()


def runtime_environment(settings: Settings) -> dict[str, str]:
    """This process's environment (so that RUNTIME_TARGET and the like reach the runtime) with what the pool decides."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    threads = max(1, (os.cpu_count() or 1) // settings.runtimes)
    return {
        "RUNTIME_CACHE_DIR": str(Path(settings.data_dir).resolve() / "cache"),
        **({"RUNTIME_THREADS": str(threads)} if settings.runtimes > 1 else {}),
        **given,
        "RUNTIME_STORE_URL": settings.store_url,
        "RUNTIME_MODEL": settings.default_model,
        "PYTHONUNBUFFERED": "1",
    }
