"""crayon on this machine: against diffusers, over batch sizes, with mixed steps, and as the judge sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.measure import Row, interleaved, judged, keep, medians, ratio
from benchmarks.pictures import sheet
from benchmarks.subjects.engine import CHECKPOINT, InProcess, TimedEngine
from crayon.judge.evaluate import SUITES, diffusers_generate, judge_suite, summary

PROMPT = "a large red heart on a blue background"
TARGETS = ("openvino-fp32", "openvino-bf16")
STEPS = 25
COMMAND = "make bench PART=crayon"
_row = partial(judged, "crayon", COMMAND)


def _stepping(engine: InProcess, at: Sequence[int]) -> Callable[[], object]:
    """One UNet call for a guided trajectory at each of these steps, repeatable."""
    trajectories = [engine.trajectory(PROMPT, seed, STEPS) for seed in range(len(at))]
    return engine.stepping(trajectories, at)


def run() -> None:
    """Measure, print and keep everything of this part."""
    torch.set_num_threads(2)
    engines = {target: InProcess(target) for target in TARGETS}
    served = engines[TARGETS[-1]]
    raw: dict[str, Any] = {}
    sheet.draw(served)
    rows = [
        *_one_image(engines, raw),
        *_rows_in_one_call(served, raw),
        *_mixed_steps(served, raw),
        _outside_the_engine(served),
        *_judged(served, raw),
    ]
    keep("crayon", rows, raw)


def _one_image(engines: Mapping[str, InProcess], raw: dict[str, Any]) -> Iterator[Row]:
    print(f"one image, {STEPS} steps, guidance 4")
    diffusers = diffusers_generate(CHECKPOINT, STEPS, 4.0)
    sides: dict[str, Callable[[], object]] = {"diffusers-fp32": partial(diffusers, [PROMPT], [1])}
    sides |= {target: partial(engine.generate, [PROMPT], [1]) for target, engine in engines.items()}
    raw["one_image"] = timings = interleaved(sides, rounds=9)
    for name, timing in medians(timings).items():
        yield _row(f"one image, {name}", timing.wall, "s", digits=4)
    for target in engines:
        for clock in ("wall", "cpu"):
            faster = ratio(timings["diffusers-fp32"], timings[target], clock)
            yield _row(f"one image, diffusers fp32 / {target}, {clock}", faster)


def _rows_in_one_call(engine: InProcess, raw: dict[str, Any]) -> Iterator[Row]:
    print("rows in one call")
    calls = {f"{2 * count} rows": _stepping(engine, [5] * count) for count in (1, 2, 4, 8)}
    raw["rows"] = timings = interleaved(calls, rounds=15, warm=3)
    for name, timing in medians(timings).items():
        per_row = timing.wall / int(name.split()[0])
        yield _row(f"{name} in one call, per row", 1000 * per_row, "ms")


def _mixed_steps(engine: InProcess, raw: dict[str, Any]) -> Iterator[Row]:
    print("eight rows at one step, and at different steps")
    batches = {"one step": _stepping(engine, [5] * 4), "mixed": _stepping(engine, [0, 5, 10, 15])}
    raw["mixed"] = timings = interleaved(batches, rounds=31, warm=3)
    mixed = ratio(timings["one step"], timings["mixed"])
    yield _row("throughput, rows at different steps / at one step", mixed, at_least=0.99)


def _outside_the_engine(engine: InProcess) -> Row:
    timed = TimedEngine(engine.engine)
    engine.use(timed)
    outside = []
    for _ in range(10):
        timed.calls.clear()
        started = time.monotonic()
        engine.generate([PROMPT] * 4, range(4))
        outside.append(1 - timed.seconds / (time.monotonic() - started))
    engine.use(engine.engine)
    share = median(outside[1:])  # without the first, which embeds the empty prompt for all that come
    return _row("share of a request that is no engine call", 100 * share, "%", at_most=1)


def _judged(engine: InProcess, raw: dict[str, Any]) -> Iterator[Row]:
    print("as served, read by the judge")
    raw["judge"] = {}
    for suite in SUITES:
        raw["judge"][suite.name] = result = summary(suite, judge_suite(suite, engine.generate))
        yield _row(f"judge, {suite.name}: all right", result["all"], "share", at_least=suite.goal_all or None)
        for attribute, share in result["shares"].items():
            goal = suite.goal_each if attribute != "size" else None
            yield _row(f"judge, {suite.name}: {attribute}", share, "share", at_least=goal)
