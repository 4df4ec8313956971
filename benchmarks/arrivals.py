"""Requests that arrive by chance: batching by step against batching by request, same engine, same row cap; and the
runtime against LitServe around a diffusers pipeline, both over HTTP.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks import peers, servers
from benchmarks.engine import InProcess
from benchmarks.measure import Row, keep
from benchmarks.poisson import MIX, Answered, Arrival, all_at_once, by_chance, p95
from darkroom.contracts import GenerationRequest, GenerationResult
from runtime import config, logs
from runtime.admission import Admission
from runtime.arrays import Pixels
from runtime.batcher import Batcher
from runtime.generation import Generation
from runtime.loop import Loop
from runtime.metrics import Metrics
from runtime.runner import Runner
from runtime.trajectory import Trajectory

COMMAND = "make bench PART=arrivals"
PROMPT = servers.PROMPT
TARGET = "openvino-bf16"
LOAD = 0.8
_CONFIG = config.load({})


@dataclass(frozen=True)
class Effort:
    """How many requests arrive by chance, in so many rounds, and how many are there at once where it is saturated;
    over HTTP `over_http` of them in each case.
    """

    requests: int
    rounds: int
    saturating: int
    over_http: int = 0


AS_COMMITTED, QUICK = Effort(240, 3, 48, 60), Effort(12, 1, 6, 6)


class Clock:
    """Monotonic seconds in which nobody waits for arrivals: idle time is passed over."""

    def __init__(self) -> None:
        self._skipped = -time.perf_counter()

    def __call__(self) -> float:
        return time.perf_counter() + self._skipped

    def skip_to(self, instant: float) -> None:
        self._skipped += max(0.0, instant - self())


Side = Callable[[Sequence[Arrival]], list[Answered]]
Server = Callable[[InProcess, Sequence[Arrival]], list[Answered]]


def by_step(engine: InProcess, arrivals: Sequence[Arrival]) -> list[Answered]:
    """Ours: the runtime's loop, its boundary at every step, with its default settings."""
    clock, waiting = Clock(), deque(enumerate(arrivals))
    answered: list[Answered] = []
    arrived: dict[str, Arrival] = {}

    def deliver(generation: Generation, _: list[Pixels]) -> None:
        asked = arrived[generation.id]
        answered.append(Answered(asked.steps, clock() - asked.at))
        generation.succeed(GenerationResult.model_construct())

    metrics = Metrics()
    admission = Admission(len(arrivals), metrics, clock)
    batcher = Batcher(_CONFIG.max_rows, _CONFIG.ageing_steps)
    loop = Loop(admission, batcher, engine.runner, deliver, metrics, hung_seconds=600, clock=clock)
    tokens = engine.tokens(PROMPT), engine.tokens("")
    while len(answered) < len(arrivals):
        while waiting and waiting[0][1].at <= clock():
            number, asked = waiting.popleft()
            arrived[str(number)] = asked
            trajectory = engine.waiting(number, asked.steps)
            request = GenerationRequest(prompt=PROMPT, num_inference_steps=asked.steps)
            admission.submit(Generation(str(number), "bench", request, [trajectory], tokens, accepted=clock()))
        if not loop.turn() and waiting:
            clock.skip_to(waiting[0][1].at)
    return answered


def by_request(engine: InProcess, arrivals: Sequence[Arrival]) -> list[Answered]:
    """What image servers do: who waits and asks for as many steps as the oldest is a batch, run to its end."""
    return _in_batches(engine, arrivals, lambda oldest, other: oldest.steps == other.steps)


def by_mixed_request(engine: InProcess, arrivals: Sequence[Arrival]) -> list[Answered]:
    """The same with batches of any steps: whoever is done is decoded at once, and the longest ends the batch."""
    return _in_batches(engine, arrivals, lambda *_: True)


def _in_batches(
    engine: InProcess, arrivals: Sequence[Arrival], fits: Callable[[Arrival, Arrival], bool]
) -> list[Answered]:
    clock, waiting = Clock(), deque(arrivals)
    answered: list[Answered] = []
    queue: list[Arrival] = []
    while len(answered) < len(arrivals):
        while waiting and waiting[0].at <= clock():
            queue.append(waiting.popleft())
        if not queue:
            clock.skip_to(waiting[0].at)
            continue
        chosen = [asked for asked in queue if fits(queue[0], asked)][: _CONFIG.max_rows // 2]
        queue = [asked for asked in queue if asked not in chosen]
        live = {engine.trajectory(PROMPT, number, asked.steps): asked for number, asked in enumerate(chosen)}
        while live:
            _step(engine.runner, list(live))
            for trajectory in [trajectory for trajectory in live if not trajectory.steps_left]:
                engine.runner.decode(trajectory.latents)
                asked = live.pop(trajectory)
                answered.append(Answered(asked.steps, clock() - asked.at))
    return answered


def _step(runner: Runner, batch: list[Trajectory]) -> None:
    for error in runner.step(batch).failures.values():
        raise error


OURS = "by step"
SERVERS: dict[str, Server] = {OURS: by_step, "by request": by_request, "by request, mixed": by_mixed_request}


def run(quick: bool = False) -> None:
    """Measure, print and keep everything of this part; `quick` tries it with few requests and keeps nothing."""
    logs.configure("warning")
    effort = QUICK if quick else AS_COMMITTED
    engine = InProcess(TARGET)
    found = compare(engine, effort)
    raw: dict[str, Any] = {"rate": found.rate, "saturation": found.rates, "answered": found.found}
    made = rows(found.found, found.rates, found.short)
    if peers.environment():
        served = over_http(effort)
        raw["over_http"] = {"rate": served.rate, "saturation": served.rates, "answered": served.found}
        made += rows_over_http(served.found, served.rates)
    if quick:
        print(*made, sep="\n")
    else:
        keep("arrivals", made, raw)


@dataclass(frozen=True)
class Compared:
    """By server: what each round answered, and images a second at saturation; `rate`: arrivals a second; `short`: see
    `_short`, 0 where it was not measured.
    """

    found: dict[str, list[list[Answered]]]
    rates: dict[str, list[float]]
    rate: float
    short: float = 0.0


def compare(engine: InProcess, effort: Effort) -> Compared:
    """All servers in turns: many requests at once, then as many by chance, at `LOAD` of our saturation."""
    by_step(engine, all_at_once(6, seed=0))
    sides = {name: partial(server, engine) for name, server in SERVERS.items()}
    found = _in_turns(sides, effort.rounds, effort.saturating, effort.requests, OURS)
    return replace(found, short=_short(engine))


def over_http(effort: Effort) -> Compared:
    """The runtime's process and LitServe's in turns, at `LOAD` of LitServe's saturation: at ours its queue would have
    no end, and the figure would be any.
    """
    with tempfile.TemporaryDirectory() as data, ExitStack() as stack:
        ours = servers.darkroom(TARGET, _CONFIG.max_rows, Path(data))
        theirs = servers.litserve(_CONFIG.max_rows // 2)
        sides = {
            server.name: partial(servers.answers, server, stack.enter_context(servers.running(server)))
            for server in (ours, theirs)
        }
        for side in sides.values():
            side(all_at_once(6, seed=0))
        return _in_turns(sides, effort.rounds, effort.over_http, effort.over_http, theirs.name)


def _in_turns(sides: Mapping[str, Side], rounds: int, saturating: int, requests: int, paced_by: str) -> Compared:
    """`paced_by` is whose saturation says how many requests arrive."""
    print(f"saturation: {saturating} requests at once", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            answered = side(all_at_once(saturating, seed=number))
            rates[name].append(saturating / max(each.seconds for each in answered))
    rate = LOAD * median(rates[paced_by])
    found: dict[str, list[list[Answered]]] = {name: [] for name in sides}
    for number in range(rounds):
        arrivals = by_chance(requests, rate, seed=number)
        for name, side in sides.items():
            found[name].append(side(arrivals))
            mean = fmean(each.seconds for each in found[name][-1])
            print(f"  round {number + 1} of {rounds}: {name}, mean {mean:.2f} s", flush=True)
    return Compared(found, rates, rate)


def _short(engine: InProcess) -> float:
    """Seconds of a 4-step request in the fullest batch, and of one step of it that it may have to wait for."""
    batch = [engine.trajectory(PROMPT, seed, MIX[-1]) for seed in range(_CONFIG.max_rows // 2)]
    _step(engine.runner, batch)
    seconds = []
    for _ in range(MIX[-1] // 2):
        started = time.perf_counter()
        _step(engine.runner, batch)
        seconds.append(time.perf_counter() - started)
    return (MIX[0] + 1) * median(seconds)


def rows(found: dict[str, list[list[Answered]]], rates: dict[str, list[float]], short: float) -> list[Row]:
    """The goals, each against the better of the two servers by request."""
    ours = OURS
    peers = [name for name in found if name != ours]

    def against(metric: str, goal: float, figure: Callable[[list[Answered]], float]) -> Row:
        figures = {name: [figure(answered) for answered in rounds] for name, rounds in found.items()}
        best = min(peers, key=lambda name: median(figures[name]))
        return _row(f"{metric}, by step / {best}", median(np.divide(figures[ours], figures[best])), goal)

    quick = median(p95([each for each in answered if each.steps == MIX[0]]) for answered in found[ours])
    fastest = max(peers, key=lambda name: median(rates[name]))
    throughput = median(np.divide(rates[ours], rates[fastest]))
    return [
        against("mean latency", 0.5, lambda answered: fmean(each.seconds for each in answered)),
        against("p95 latency", 0.65, p95),
        _row(f"p95 of {MIX[0]}-step requests / {MIX[0] + 1} steps of the full batch", quick / short, 1.3),
        _row(f"throughput at saturation, by step / {fastest}", throughput, 0.98, at_least=True),
        Row("arrivals", "throughput at saturation", round(median(rates[ours]), 2), "images/s", COMMAND),
    ]


def rows_over_http(found: dict[str, list[list[Answered]]], rates: dict[str, list[float]]) -> list[Row]:
    """The same goals against LitServe; `found` and `rates` have ours first."""
    ours, theirs = found

    def ratio(figure: Callable[[list[Answered]], float]) -> float:
        return float(median(np.divide(list(map(figure, found[ours])), list(map(figure, found[theirs])))))

    throughput = median(np.divide(rates[ours], rates[theirs]))
    against = f"over HTTP, {ours} / {theirs}"
    return [
        _row(f"mean latency {against}", ratio(lambda answered: fmean(each.seconds for each in answered)), 0.5),
        _row(f"p95 latency {against}", ratio(p95), 0.65),
        _row(f"throughput at saturation {against}", throughput, 0.98, at_least=True),
    ]


def _row(metric: str, measured: Any, goal: float, *, at_least: bool = False) -> Row:
    met = bool(measured >= goal if at_least else measured <= goal)
    return Row(
        "arrivals", metric, round(float(measured), 3), "x", COMMAND, f"{'>=' if at_least else '<='} {goal:g}", met
    )
