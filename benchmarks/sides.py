"""Sides in turns, each in a process of its own: seconds of steps and images, peak memory, time to the first."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

ROOT = Path(__file__).parent.parent
Clock = Literal["wall", "cpu"]


@dataclass(frozen=True)
class Side:
    """How to start one: `benchmarks/side.py` under this interpreter, a kind of side and its arguments; and for how many
    seconds each of its answers is waited for.
    """

    name: str
    kind: str
    arguments: Mapping[str, Any]
    python: Path = Path(sys.executable)
    patience: float = 600.0


class SideDied(Exception):
    """A side's process ended by itself, or did not answer in time; the message says which."""


@dataclass(frozen=True)
class Image:
    """Seconds since its begin at the end of every step, and last when it was decoded; of ours, how many of all were
    spent in calls of the engine.
    """

    wall: list[float]
    cpu: list[float]
    engine: float | None = None

    def step(self, clock: Clock) -> float:
        """Seconds of one step, the mean of all but the first; an image of at least two steps."""
        marks = getattr(self, clock)[:-1]
        return float(marks[-1] - marks[0]) / (len(marks) - 1)

    def seconds(self, steps: int, clock: Clock) -> float:
        """Seconds of an image of so many steps: as measured if it had as many, else with equal steps added."""
        marks = getattr(self, clock)
        missing = steps - (len(marks) - 1)
        return float(marks[-1] + missing * self.step(clock)) if missing else float(marks[-1])


@dataclass(frozen=True)
class Found:
    """What was read of a side: seconds from its process's start until it was loaded, and until its first image, of one
    step; further images, one a round; peak bytes; bytes of the GPU's memory that were taken by then.
    """

    name: str
    loaded: float
    first: float
    peak: int
    images: list[Image] = field(default_factory=list)
    gpu: int = 0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Found:
        return cls(**{**told, "images": [Image(**image) for image in told["images"]]})

    def seconds(self, steps: int | None, clock: Clock = "wall") -> list[float]:
        """Of each round: seconds of an image of so many steps, or of one step (None)."""
        return [image.step(clock) if steps is None else image.seconds(steps, clock) for image in self.images]


def faster(slow: Found, fast: Found, steps: int | None, clock: Clock = "wall") -> float:
    """How many times faster `fast` is, the median of the rounds' own ratios; see `Found.seconds`."""
    return median(a / b for a, b in zip(slow.seconds(steps, clock), fast.seconds(steps, clock), strict=True))


def in_turns(
    sides: Sequence[Side], *, rounds: int, steps: int, kept: Path, gpu_memory: Callable[[], int] = lambda: 0
) -> tuple[dict[str, Found], dict[str, str]]:
    """Start all, each making an image of one step, then A B C A B C, an image of `steps` steps each; what was found,
    and of each side that died why.

    `gpu_memory` gives the bytes that all processes have of the GPU. It is read around each side's first image, when no
    other side does anything: allocators keep what they once had.

    A group of sides that was measured the same way and is still in `kept` is not measured again.
    """
    asked = json.loads(json.dumps([rounds, steps, *map(asdict, sides)], default=str))
    if kept.exists():
        told = json.loads(kept.read_text())
        if told["asked"] == asked:
            return {name: Found.of(found) for name, found in told["found"].items()}, told["died"]
    found: dict[str, Found] = {}
    died: dict[str, str] = {}
    with ExitStack() as stack:
        live: list[Process] = []
        for side in sides:
            print(f"  {side.name}: loading", flush=True)
            taken = gpu_memory()
            process = stack.enter_context(_running(side))
            try:
                process.load()
                process.gpu = gpu_memory() - taken
            except SideDied as death:
                died[side.name] = str(death)
                continue
            live.append(process)
        for number in range(rounds):
            for process in list(live):
                try:
                    image = process.image(steps)
                except SideDied as death:
                    died[process.side.name] = str(death)
                    live.remove(process)
                    process.end()
                    continue
                print(f"  round {number + 1} of {rounds}: {process.side.name} {image.wall[-1]:.1f} s", flush=True)
        found = {process.side.name: process.found() for process in live}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"asked": asked, "found": {n: asdict(f) for n, f in found.items()}, "died": died}))
    return found, died


def first_image(side: Side, *, cold: bool, files: Sequence[Path]) -> float:
    """Seconds from a process's start to its first image, of one step; `cold`: the page cache has none of these folders.

    Raises: SideDied.
    """
    if cold:
        for folder in files:
            _forget(folder)
    with _running(side) as process:
        process.load()
        found = process.found().first
    print(f"  {side.name}, {'cold' if cold else 'warm'}: {found:.1f} s", flush=True)
    return found


def _forget(folder: Path) -> None:
    """Let the system drop a folder's files from its page cache (posix_fadvise(2)); what is mapped elsewhere stays."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Process:
    """A started side."""

    def __init__(self, side: Side, log: Path) -> None:
        self.side = side
        self._log = log
        self._images: list[Image] = []
        self._peak = 0
        self.gpu = 0
        self._started = time.perf_counter()
        with log.open("wb") as said:
            self._child = subprocess.Popen(
                [str(side.python), str(ROOT / "benchmarks" / "side.py"), side.kind, json.dumps(dict(side.arguments))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=_environment(int(side.arguments["threads"])),
                start_new_session=True,  # so that what it starts itself, such as compilers, ends with it
            )

    def load(self) -> None:
        """Wait until it is loaded and has made an image of one step. Raises: SideDied."""
        self._told()
        self._loaded = time.perf_counter() - self._started
        self.image(1)
        self._first = time.perf_counter() - self._started
        self._images.clear()

    def image(self, steps: int) -> Image:
        """Let it make one image. Raises: SideDied."""
        assert self._child.stdin
        with suppress(BrokenPipeError):  # it has died: there is no answer either
            self._child.stdin.write(f"{steps}\n")
            self._child.stdin.flush()
        told = self._told()
        self._images.append(Image(told["wall"], told["cpu"], told.get("engine")))
        return self._images[-1]

    def found(self) -> Found:
        return Found(self.side.name, self._loaded, self._first, self._peak, list(self._images), self.gpu)

    def end(self) -> None:
        if self._child.returncode is None:
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.communicate()

    def _told(self) -> dict[str, Any]:
        assert self._child.stdout
        if not select.select([self._child.stdout], [], [], self.side.patience)[0]:
            raise SideDied(f"no answer in {self.side.patience:g} s")
        line = self._child.stdout.readline()
        if not line:
            said = self._log.read_text(errors="replace").strip().splitlines()
            raise SideDied(said[-1] if said else f"exit status {self._child.wait()}")
        told: dict[str, Any] = json.loads(line)
        self._peak = max(self._peak, int(told["peak"]))
        return told


def _environment(threads: int) -> dict[str, str]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "layers" / "shared")))
    return {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}


@contextmanager
def _running(side: Side) -> Iterator[Process]:
    logs = ROOT / ".darkroom" / "bench" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    process = Process(side, logs / f"{side.name.replace(' ', '-')}.log")
    try:
        yield process
    finally:
        process.end()
