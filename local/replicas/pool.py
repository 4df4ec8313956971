"""The runtimes of this machine, each with the dispatcher that feeds it; their number may change while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import structlog

from api.schemas.models import Health
from darkroom.inference import http
from darkroom.jobs import JobStore
from darkroom.settings import Settings
from local.replicas import cores
from local.replicas.bulletin import Bulletin
from local.replicas.capacity import most_replicas
from local.replicas.dispatcher import Dispatcher
from local.replicas.replica import RUNTIME, Replica, RuntimeDidNotStart

log = structlog.get_logger(part="pool")

_STARTING_AT_ONCE = 4  # each is busy with its bundle, and what serves has work
_FAILED_START_SECONDS = 30.0  # a replica that was added and did not start keeps its place for so long


@dataclass(eq=False)
class Member:
    """A replica and its dispatcher. `first`: it was there from the start; `leaving`: it only finishes what it has."""

    number: int
    replica: Replica
    dispatcher: Dispatcher
    first: bool
    leaving: bool = False


class Pool:
    """`settings.runtimes` replicas of the default model, sharing this machine's processors, until `resize`."""

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
        self._settings = settings
        self._jobs = jobs
        self._bulletin = bulletin
        self._emit = emit
        self._program = program
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._rested = False  # it was at zero, and no replica has been ready since
        self._may_wake = True
        self._client = http.client()
        self._members: list[Member] = []
        for _ in range(settings.runtimes):
            self._add(first=True)

    @property
    def members(self) -> list[Member]:
        """Those that take work and those that are leaving."""
        return list(self._members)

    @property
    def replicas(self) -> list[Replica]:
        return [member.replica for member in self._members]

    @property
    def wanted(self) -> int:
        """How many replicas are to stay."""
        return sum(not member.leaving for member in self._members)

    @property
    def ready_count(self) -> int:
        """How many of them take work now."""
        return sum(member.replica.readiness.ready and not member.leaving for member in self._members)

    async def run(self) -> None:
        """Run until `drain` or `abort`; returns when every process and every attempt has ended.

        Raises: RuntimeDidNotStart, of a replica that was there from the start.
        """
        try:
            async with asyncio.TaskGroup() as self._group:
                for member in self._members:
                    self._group.create_task(self._live(member, self._group))
                self._group.create_task(self._stopped.wait())  # a pool may be empty and go on
        except* RuntimeDidNotStart as failed:
            raise failed.exceptions[0] from None
        finally:
            await self._client.aclose()

    def most(self) -> int:
        """How many replicas this machine has room for; as many as the settings name it is given in any case."""
        working = [replica.pid for replica in self.replicas if replica.loaded and replica.pid is not None]
        return max(self._settings.runtimes, most_replicas(working))

    async def ready(self) -> None:
        """Returns once any replica is ready."""
        while not self.ready_count:
            self._changed.clear()
            await self._changed.wait()

    def resize(self, number: int, *, may_wake: bool = True) -> None:
        """Start replicas, or let some finish what they have and end, so that `number`, or as many as fit, are to stay.

        Few start at a time: call it again and again.
        `may_wake`: whether a request would start one where there is none. Call it while `run` runs; once the pool
        drains it does nothing.
        """
        if self.draining or self._group is None:
            return
        self._may_wake = may_wake
        staying = [member for member in self._members if not member.leaving]
        starting = sum(not member.replica.readiness.ready for member in staying)
        for _ in range(min(number, self.most()) - len(staying) if number > len(staying) else 0):
            if starting >= _STARTING_AT_ONCE:
                break
            starting += 1
            member = self._add(first=False)
            self._group.create_task(self._live(member, self._group))
        # What is not ready goes first, then what has least in work, then the youngest.
        going = sorted(staying, key=lambda one: (one.replica.readiness.ready, one.dispatcher.in_flight, -one.number))
        for member in going[: max(len(staying) - number, 0)]:
            member.leaving = True
            member.dispatcher.stop()
        self._rested = self._rested or number == 0

    def drain(self) -> None:
        """Claim nothing more; let what is in flight finish, or come back as `draining` and be queued again."""
        self.draining = True
        self._stopped.set()
        for member in self._members:
            member.dispatcher.stop()
            member.replica.drain()

    def abort(self) -> None:
        """Stop now; what was in flight goes back into the queue."""
        self.draining = True
        self._stopped.set()
        for member in self._members:
            member.dispatcher.abort()
            member.replica.kill()

    def health(self) -> Health:
        """Ready also where a request would first wake a replica: it is served all the same."""
        if self.draining:
            return Health(status="draining")
        if not self.wanted and not self._may_wake:
            return Health(status="stopped")
        return Health(status="ready" if self.ready_count or self._rested else "starting")

    def _add(self, *, first: bool) -> Member:
        taken = {member.number for member in self._members}
        number = next(number for number in count() if number not in taken)
        name = f"runtime-{number}"
        replica = Replica(
            name,
            runtime_environment(self._settings),
            client=self._client,
            on_ready=lambda ready: self._on_ready(member, ready),
            emit=self._emit,
            program=self._program,
        )
        worker = f"{os.getpid()}-{name}"
        dispatcher = Dispatcher(self._jobs, replica.runtime, self._bulletin, self._settings, name=worker)
        member = Member(number, replica, dispatcher, first)
        self._members.append(member)
        return member

    async def _live(self, member: Member, group: asyncio.TaskGroup) -> None:
        """One member from start to end."""
        feeding = group.create_task(self._feed(member))
        try:
            await self._process(member)
            member.dispatcher.stop()
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            self._members.remove(member)
            self._share()

    async def _feed(self, member: Member) -> None:
        """Until the dispatcher ends: it was stopped, and what it had in flight has ended. Then the process may go."""
        await member.dispatcher.run()
        if member.leaving and not self.draining:
            member.replica.drain()

    async def _process(self, member: Member) -> None:
        try:
            await member.replica.run()
        except RuntimeDidNotStart as failed:
            if member.first:
                raise
            log.error("replica did not start", replica=member.replica.name, reason=str(failed))
            self._rested = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _FAILED_START_SECONDS)

    def _on_ready(self, member: Member, ready: bool) -> None:
        available = member.dispatcher.available
        if ready:
            available.set()
            self._rested = False
        elif not self.draining and not member.leaving:
            available.clear()
        self._share()
        self._changed.set()

    def _share(self) -> None:
        """Divide the cores among the processes that work.

        Each has as many threads as there are cores, so that one that is left alone can use them all; confined to a
        share, they take turns. What still starts counts the cores it sees, and is confined once it is ready.
        """
        working = [member.replica.pid for member in self._members if member.replica.loaded]
        for pid, share in zip(working, cores.divided(cores.processors(), len(working)), strict=True):
            if pid is not None and share:
                cores.confine(pid, share)


def runtime_environment(settings: Settings) -> dict[str, str]:
    """This process's environment (so that RUNTIME_TARGET and the like reach the runtime) with what the pool decides."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    return {
        "RUNTIME_CACHE_DIR": str(Path(settings.data_dir).resolve() / "cache"),
        **given,
        "RUNTIME_STORE_URL": settings.store_url,
        "RUNTIME_IMAGES_URL": settings.images_url,
        "RUNTIME_MODEL": settings.default_model,
        "PYTHONUNBUFFERED": "1",
    }
