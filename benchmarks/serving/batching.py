"""Servers of one engine that batch by step, as the runtime does, or by request; each in a time of its own, so that they
take turns at every call and meet the same machine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm  # type: ignore[import-untyped]

from benchmarks.serving.poisson import Answered, Arrival
from benchmarks.subjects.engine import InProcess
from darkroom.contracts import GenerationRequest, GenerationResult
from runtime.arrays import Pixels
from runtime.denoising.batcher import Batcher
from runtime.denoising.trajectory import Trajectory
from runtime.metrics import Metrics
from runtime.serving.admission import Admission
from runtime.serving.generation import Generation
from runtime.serving.loop import Loop

PROMPT = "a large red heart on a blue background"


class TurnClock:
    """Seconds in which a server works. It stands still while another has its turn, and idle time is passed over."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._running_since: float | None = None

    def __call__(self) -> float:
        return self._passed + (0 if self._running_since is None else time.perf_counter() - self._running_since)

    def skip_to(self, instant: float) -> None:
        self._passed += max(0.0, instant - self())

    @contextmanager
    def running(self) -> Iterator[None]:
        self._running_since = time.perf_counter()
        try:
            yield
        finally:
            self._passed, self._running_since = self(), None


class TurnServer(Protocol):
    """Answers the arrivals it was made for, `turn` by `turn`."""

    clock: TurnClock
    answered: list[Answered]

    def turn(self) -> None: ...


Serves = Callable[[Sequence[Arrival]], TurnServer]


def answers(serving: Mapping[str, Serves], arrivals: Sequence[Arrival], label: str) -> dict[str, list[Answered]]:
    """What each server answers to the same arrivals; whose time is earliest has the next turn."""
    servers = {name: serves(arrivals) for name, serves in serving.items()}
    with tqdm(total=len(servers) * len(arrivals), desc=label) as progress:
        while live := [server for server in servers.values() if len(server.answered) < len(arrivals)]:
            server = min(live, key=lambda server: server.clock())
            before = len(server.answered)
            with server.clock.running():
                server.turn()
            progress.update(len(server.answered) - before)
    return {name: server.answered for name, server in servers.items()}


class ByStep:
    """Ours: the runtime's loop, its boundary at every step. The batcher lives on, as it does in a runtime."""

    def __init__(self, engine: InProcess, batcher: Batcher, arrivals: Sequence[Arrival]) -> None:
        self.clock, self.answered = TurnClock(), list[Answered]()
        self._engine, self._waiting = engine, deque(enumerate(arrivals))
        self._arrived: dict[str, Arrival] = {}
        self._tokens = engine.tokens(PROMPT), engine.tokens("")
        metrics = Metrics()
        self._admission = Admission(len(arrivals), metrics, self.clock)
        self._loop = Loop(
            self._admission, batcher, engine.runner, self._deliver, metrics, hung_seconds=600, clock=self.clock
        )

    def turn(self) -> None:
        while self._waiting and self._waiting[0][1].at <= self.clock():
            self._admit(*self._waiting.popleft())
        if not self._loop.turn() and self._waiting:
            self.clock.skip_to(self._waiting[0][1].at)

    def _admit(self, number: int, arrival: Arrival) -> None:
        self._arrived[str(number)] = arrival
        trajectory = self._engine.waiting(number, arrival.steps)
        request = GenerationRequest(prompt=PROMPT, num_inference_steps=arrival.steps)
        self._admission.submit(
            Generation(str(number), "bench", request, [trajectory], self._tokens, accepted=self.clock())
        )

    def _deliver(self, generation: Generation, _: list[Pixels]) -> None:
        arrival = self._arrived[generation.id]
        self.answered.append(Answered(arrival.steps, self.clock() - arrival.at))
        generation.succeed(GenerationResult.model_construct())


class ByRequest:
    """What image servers do: who waits and asks for as many steps as the oldest is a batch, run to its end.

    Where `mixed`, a batch has any steps: whoever is done is decoded at once, and the longest ends the batch.
    """

    def __init__(self, engine: InProcess, most: int, mixed: bool, arrivals: Sequence[Arrival]) -> None:
        """`most` images are in a batch."""
        self.clock, self.answered = TurnClock(), list[Answered]()
        self._engine, self._waiting = engine, deque(arrivals)
        self._most, self._mixed = most, mixed
        self._queue: list[Arrival] = []
        self._live: dict[Trajectory, Arrival] = {}

    def turn(self) -> None:
        while self._waiting and self._waiting[0].at <= self.clock():
            self._queue.append(self._waiting.popleft())
        if not self._live and not self._queue:
            self.clock.skip_to(self._waiting[0].at)
            return
        if not self._live:
            self._begin()
        self._engine.step(list(self._live))
        for trajectory in [trajectory for trajectory in self._live if not trajectory.steps_left]:
            self._engine.runner.decode(trajectory.latents)
            arrival = self._live.pop(trajectory)
            self.answered.append(Answered(arrival.steps, self.clock() - arrival.at))

    def _begin(self) -> None:
        oldest = self._queue[0]
        chosen = [arrival for arrival in self._queue if self._mixed or arrival.steps == oldest.steps][: self._most]
        self._queue = [arrival for arrival in self._queue if arrival not in chosen]
        self._live = {
            self._engine.trajectory(PROMPT, number, arrival.steps): arrival for number, arrival in enumerate(chosen)
        }
