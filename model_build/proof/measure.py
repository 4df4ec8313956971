"""Measure: two processes take turns at the same work, so both meet the same machine and each has its own memory."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import Checkpoint
from model_build.layout import COMPONENTS
from model_build.proof.generation import Floats, Setting
from model_build.proof.trial import Arrays

IMAGE = "image"
_PATIENCE_SECONDS = 5.0
_ROWS = (1, 2, 4, 8, 16)
_GAIN = 0.95
WORKS = (*COMPONENTS, IMAGE)


class Contestant(Protocol):
    """One side of a comparison, as `reference.Reference` and `generation.BundlePipeline` both are."""

    def generate(self, setting: Setting) -> Floats: ...

    def component(self, name: str, inputs: Arrays) -> list[NDArray[Any]]: ...


Side = Callable[[], Contestant]  # called in the process that is measured; picklable


@dataclass(frozen=True)
class Measurement:
    """One side of one piece of work: median seconds, and the process's peak resident bytes meanwhile (0 off Linux)."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class ReferenceSide:
    """Builds the diffusers side in the process that is measured.

    `device` is torch's name of one; with `compiled` the UNet goes through torch.compile. On another device than the CPU
    or in half it makes whole images only.
    """

    checkpoint: Checkpoint
    threads: int
    device: str = "cpu"
    half: bool = False
    compiled: bool = False

    def __call__(self) -> Contestant:
        import torch

        from model_build.checkpoints.loading import load
        from model_build.proof.reference import Reference

        torch.set_num_threads(self.threads)
        pipeline = load(self.checkpoint).to(self.device, torch.float16 if self.half else torch.float32)
        if self.compiled:
            pipeline.unet.compile()
        return Reference(self.checkpoint, pipeline)


def row_costs(side: Side, inputs: Arrays, *, repeats: int) -> dict[int, float]:
    """Rows in one UNet call -> milliseconds a row, the least of `repeats`; until more rows gain nothing any more.

    `inputs` are a UNet's, of which the first row is repeated. Raises: BuildRefused when the side's process dies.
    """
    costs: dict[int, float] = {}
    with _process(side) as process:
        for rows in _ROWS:
            task = "unet", {name: np.repeat(value[:1], rows, axis=0) for name, value in inputs.items()}
            _ask(process, task)
            before = min(costs.values(), default=np.inf)
            costs[rows] = 1000 * min(_ask(process, task).seconds for _ in range(repeats)) / rows
            if rows > 2 and costs[rows] > _GAIN * before:
                break
    return {rows: round(cost, 3) for rows, cost in costs.items()}


def take_turns(
    a: Side, b: Side, works: Mapping[str, Arrays | Setting], *, repeats: int, advance: Callable[[], None]
) -> dict[str, tuple[Measurement, Measurement]]:
    """For each piece of work: warm both sides, then A B A B, `repeats` times; `advance` is called after each piece.

    Raises: BuildRefused when a side's process dies.
    """
    measured = {}
    with _process(a) as first, _process(b) as second:
        for task in works.items():
            for side in (first, second):
                _ask(side, task)
            turns = [(_ask(first, task), _ask(second, task)) for _ in range(repeats)]
            measured[task[0]] = (summary([turn[0] for turn in turns]), summary([turn[1] for turn in turns]))
            advance()
    return measured


def summary(readings: list[Measurement]) -> Measurement:
    """The median time and the highest peak."""
    return Measurement(median(reading.seconds for reading in readings), max(reading.peak_bytes for reading in readings))


@contextmanager
def _process(side: Side) -> Iterator[Connection]:
    """A fresh interpreter that answers `_ask`; ended with the block. Ctrl-C is the parent's business alone."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, side), daemon=True)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child inherits it from its first instruction
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, interrupt)
    theirs.close()
    try:
        yield ours
    except BaseException:  # Ctrl-C above all: it may be at work for minutes
        process.terminate()
        process.join(_PATIENCE_SECONDS)
        process.kill()
        raise
    finally:
        ours.close()  # idle, it reads the end of the pipe and leaves
        process.join()


def _ask(side: Connection, task: tuple[str, Any]) -> Measurement:
    side.send(task)
    try:
        reading: Measurement = side.recv()
    except EOFError:
        raise BuildRefused("A process that was being timed has died, most likely for want of memory.") from None
    return reading


def _answer(pipe: Connection, build: Side) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that what the libraries hold is given back
    contestant = build()
    while True:
        try:
            work, argument = pipe.recv()
        except EOFError:
            return
        _reset_peak()
        start = time.perf_counter()
        if work == IMAGE:
            contestant.generate(argument)
        else:
            contestant.component(work, argument)
        pipe.send(Measurement(time.perf_counter() - start, _peak_bytes()))


def _reset_peak() -> None:
    """Linux: set the high-water mark of this process's resident memory to what it is now (proc(5), clear_refs)."""
    with suppress(OSError):  # where that is forbidden the mark is the highest since the process began
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
