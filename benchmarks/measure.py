"""Interleaved timing, and how results are kept: raw runs as JSON, and one row per goal in `summary.json`."""

from __future__ import annotations

import json
import platform
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from model_build.hardware import hardware, installed, threads

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_LIBRARIES = ("diffusers", "numpy", "onnxruntime", "openvino", "torch", "transformers")


@dataclass(frozen=True)
class Timing:
    """One run: seconds on the wall, and CPU-seconds of this process (which a busy machine disturbs less)."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Row:
    """One figure; `goal` is text such as '>= 2.0', None where none was set beforehand."""

    part: str
    metric: str
    measured: float
    unit: str
    command: str
    goal: str | None = None
    met: bool | None = None


def judged(
    part: str,
    command: str,
    metric: str,
    measured: float,
    unit: str = "x",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    digits: int | None = 3,
) -> Row:
    """A row held against its goal, if it has one, before it is rounded to `digits`."""
    goal, met = None, None
    if at_least is not None:
        goal, met = f">= {at_least:.4g}", bool(measured >= at_least)
    elif at_most is not None:
        goal, met = f"<= {at_most:.4g}", bool(measured <= at_most)
    return Row(part, metric, round(float(measured), digits), unit, command, goal, met)


def interleaved(sides: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1) -> dict[str, list[Timing]]:
    """Run every side once a round, A B A B ..., after `warm` unmeasured rounds: drift of the machine hits all alike."""
    timings: dict[str, list[Timing]] = {name: [] for name in sides}
    for number in range(-warm, rounds):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            side()
            if number >= 0:
                timings[name].append(Timing(time.perf_counter() - wall, time.process_time() - cpu))
        print(f"  round {number + 1} of {rounds}" if number >= 0 else "  warm-up", flush=True)
    return timings


def medians(timings: Mapping[str, list[Timing]]) -> dict[str, Timing]:
    return {n: Timing(median(t.wall for t in ts), median(t.cpu for t in ts)) for n, ts in timings.items()}


def ratio(slow: list[Timing], fast: list[Timing], clock: str = "wall") -> float:
    """How many times faster by a clock of `Timing`: the median of the rounds' own ratios."""
    return median(float(getattr(a, clock) / getattr(b, clock)) for a, b in zip(slow, fast, strict=True))


def machine() -> dict[str, str]:
    """Hardware and versions, as kept with every result."""
    versions = {library: installed(library) for library in _LIBRARIES if find_spec(library)}
    cpu, cores = hardware()["processor"], str(threads())
    return {"cpu": cpu, "cores": cores, "python": platform.python_version(), **versions}


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keep(part: str, rows: list[Row], raw: Mapping[str, Any]) -> None:
    """Write the raw runs to `{part}.json` and replace this part's rows in `summary.json`."""
    RESULTS.mkdir(exist_ok=True)
    taken = {"machine": machine(), "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    (RESULTS / f"{part}.json").write_text(json.dumps({**taken, **raw}, indent=1, default=asdict) + "\n")
    path = RESULTS / "summary.json"
    others = [row for row in json.loads(path.read_text()) if row["part"] != part] if path.exists() else []
    kept = [{**asdict(row), **taken} for row in rows]
    path.write_text(json.dumps(sorted(others + kept, key=lambda row: row["part"]), indent=1) + "\n")
