"""Requests that arrive by chance: batching by step against batching by request, same engine, same row cap; and the
runtime against LitServe around a diffusers pipeline, both over HTTP.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks.measure import Row, judged, keep
from benchmarks.peers import environment as peers
from benchmarks.serving import servers
from benchmarks.serving.batching import PROMPT, ByRequest, ByStep, Serves, answers
from benchmarks.serving.poisson import MIX, Answered, Arrival, all_at_once, by_chance, p95
from benchmarks.subjects.engine import InProcess
from darkroom import logs
from runtime import config
from runtime.serving.service import batcher

COMMAND = "make bench PART=arrivals"
TARGET = "openvino-bf16"
LOAD = 0.8
_CONFIG = config.load({})
_row = partial(judged, "arrivals", COMMAND)


@dataclass(frozen=True)
class RequestCounts:
    """How many requests arrive by chance, in so many rounds, and how many are there at once where it is saturated;
    over HTTP `over_http` of them in each case.
    """

    requests: int
    rounds: int
    saturating: int
    over_http: int = 0


AS_COMMITTED, QUICK = RequestCounts(240, 3, 48, 60), RequestCounts(12, 1, 6, 6)
OURS = "by step"
Answer = Callable[[Sequence[Arrival], str], dict[str, list[Answered]]]  # by server; and what is told meanwhile


def run(quick: bool = False) -> None:
    """Measure, print and keep everything of this part; `quick` tries it with few requests and keeps nothing."""
    logs.configure("warning", sys.stdout)
    effort = QUICK if quick else AS_COMMITTED
    engine = InProcess(TARGET)
    compared = compare(engine, effort)
    raw: dict[str, Any] = {"paces": compared.paces, "saturation": compared.rates, "answered": compared.answered}
    measured = rows(compared.answered, compared.rates, compared.short)
    if peers.environment():
        served = over_http(effort)
        raw["over_http"] = {"paces": served.paces, "saturation": served.rates, "answered": served.answered}
        measured += rows_over_http(served.answered, served.rates)
    if quick:
        print(*measured, sep="\n")
    else:
        keep("arrivals", measured, raw)


@dataclass(frozen=True)
class Comparison:
    """By server, what it answered in each round, and its images a second at saturation. `paces` has the arrivals a
    second of each round; `short` is what `_short` measured, 0 where it was not.
    """

    answered: dict[str, list[list[Answered]]]
    rates: dict[str, list[float]]
    paces: list[float]
    short: float = 0.0


def compare(engine: InProcess, effort: RequestCounts) -> Comparison:
    """By step and by request, with our row cap: a call of each in turns."""
    ours = batcher(_CONFIG, engine.loaded)
    by_step = partial(ByStep, engine, ours)
    answers({OURS: by_step}, all_at_once(AS_COMMITTED.saturating, seed=0), "learning how many rows pay")
    most = ours.row_cap(engine.waiting(0, MIX[0]).size) // 2
    print(f"at most {most} images a call", flush=True)
    serving: dict[str, Serves] = {
        OURS: by_step,
        "by request": partial(ByRequest, engine, most, False),
        "by request, mixed": partial(ByRequest, engine, most, True),
    }
    compared = _in_rounds(partial(answers, serving), effort.rounds, effort.saturating, effort.requests, OURS)
    return replace(compared, short=_short(engine, most))


def over_http(effort: RequestCounts) -> Comparison:
    """The runtime's process and LitServe's in turns, at `LOAD` of LitServe's saturation: at ours its queue would have
    no end, and the figure would be any.
    """
    with tempfile.TemporaryDirectory() as data, ExitStack() as stack:
        ours = servers.darkroom(TARGET, _CONFIG.max_rows, Path(data))
        theirs = servers.litserve(_CONFIG.max_rows // 2)
        addresses = [(server, stack.enter_context(servers.running(server))) for server in (ours, theirs)]

        def answer(arrivals: Sequence[Arrival], label: str) -> dict[str, list[Answered]]:
            print(label, flush=True)
            return {server.name: servers.answers(server, address, arrivals) for server, address in addresses}

        answer(all_at_once(6, seed=0), "first uses")
        return _in_rounds(answer, effort.rounds, effort.over_http, effort.over_http, theirs.name)


def _in_rounds(answer: Answer, rounds: int, saturating: int, requests: int, paced_by: str) -> Comparison:
    """Many requests at once, then many by chance, at `LOAD` of the saturation that `paced_by` has just had: a machine's
    speed drifts.
    """
    answered: dict[str, list[list[Answered]]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    paces: list[float] = []
    for number in range(rounds):
        for name, each in answer(all_at_once(saturating, seed=number), f"saturation {number + 1} of {rounds}").items():
            rates[name].append(saturating / max(one.seconds for one in each))
        paces.append(LOAD * rates[paced_by][-1])
        arrivals = by_chance(requests, paces[-1], seed=number)
        for name, each in answer(arrivals, f"by chance {number + 1} of {rounds}").items():
            answered[name].append(each)
            print(f"  {name}: mean {fmean(one.seconds for one in each):.2f} s", flush=True)
    return Comparison(answered, rates, paces)


def _short(engine: InProcess, most: int) -> float:
    """Seconds of a 4-step request in the fullest batch, and of one step of it that it may have to wait for."""
    batch = [engine.trajectory(PROMPT, seed, MIX[-1]) for seed in range(most)]
    engine.step(batch)
    seconds = []
    for _ in range(MIX[-1] // 2):
        started = time.perf_counter()
        engine.step(batch)
        seconds.append(time.perf_counter() - started)
    return (MIX[0] + 1) * median(seconds)


def rows(answered: dict[str, list[list[Answered]]], rates: dict[str, list[float]], short: float) -> list[Row]:
    """The goals by step, each against the better of the two servers by request."""
    mean, tail, throughput = _against_others(answered, rates)
    quick = median(p95([each for each in one_round if each.steps == MIX[0]]) for one_round in answered[OURS])
    return [
        mean,
        tail,
        _row(f"p95 of {MIX[0]}-step requests / {MIX[0] + 1} steps of the full batch", quick / short, at_most=1.3),
        throughput,
        _row("throughput at saturation", median(rates[OURS]), "images/s", digits=2),
    ]


def rows_over_http(answered: dict[str, list[list[Answered]]], rates: dict[str, list[float]]) -> list[Row]:
    """The same goals against LitServe."""
    return list(_against_others(answered, rates, " over HTTP"))


def _against_others(
    answered: dict[str, list[list[Answered]]], rates: dict[str, list[float]], where: str = ""
) -> tuple[Row, Row, Row]:
    """Mean latency, p95 latency and throughput of the first server against the best of the others."""
    ours, *others = answered

    def latency(metric: str, goal: float, figure: Callable[[list[Answered]], float]) -> Row:
        figures = {name: [figure(one_round) for one_round in rounds] for name, rounds in answered.items()}
        best = min(others, key=lambda name: median(figures[name]))
        return _row(f"{metric}{where}, {ours} / {best}", median(np.divide(figures[ours], figures[best])), at_most=goal)

    fastest = max(others, key=lambda name: median(rates[name]))
    throughput = median(np.divide(rates[ours], rates[fastest]))
    return (
        latency("mean latency", 0.5, lambda one_round: fmean(each.seconds for each in one_round)),
        latency("p95 latency", 0.65, p95),
        _row(f"throughput at saturation{where}, {ours} / {fastest}", throughput, at_least=0.98),
    )
