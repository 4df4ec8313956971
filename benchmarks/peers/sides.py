"""Sides in turns, each in a process of its own: seconds of steps and images, peak memory, time to the first."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

from tqdm import tqdm  # type: ignore[import-untyped]

from benchmarks.measure import ROOT

Clock = Literal["wall", "cpu"]


@dataclass(frozen=True)
class Side:
    """How to start one: `side.py` under this interpreter, a kind of side and its arguments; and for how many
    seconds each of its answers is waited for.
    """

    name: str
    kind: str
    arguments: Mapping[str, Any]
    python: Path = Path(sys.executable)
    patience: float = 600.0


class SideDied(Exception):
    """A side's process ended by itself, or did not answer in time; the message says which."""


Span = tuple[float, float]  # of the monotonic clock, which is one for all processes


@dataclass(frozen=True)
class Image:
    """Seconds of one image by either clock: one entry for each step, the first with all that comes before it, then one
    for what comes after the last step. `engine` is the time in calls of the engine, where the side is ours.
    """

    wall: list[float]
    cpu: list[float]
    engine: float | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any], turns: Sequence[Span]) -> Image:
        """From what a side told (see side.py), not counting what passed between its turns."""

        def passed(begun: float, ended: float) -> float:
            return sum(max(0.0, min(ended, end) - max(begun, begin)) for begin, end in turns)

        wall, cpu = zip(*record["moments"], strict=True)
        engine = sum(passed(*call) for call in record["engine"]) if "engine" in record else None
        return cls([passed(*stretch) for stretch in pairwise(wall)], [b - a for a, b in pairwise(cpu)], engine)

    def seconds(self, clock: Clock = "wall") -> float:
        """Of all of it."""
        return sum(self.wall if clock == "wall" else self.cpu)

    def step(self) -> float:
        """Of one step, the median of all but the first; an image of at least two steps."""
        return median(self.wall[1:-1])


@dataclass(frozen=True)
class SideResult:
    """What one side took. `loaded` and `first` are seconds from the start of its process until it was loaded, and until
    its first image, of one step, was done. `images` has one image a round. `peak` is the most memory that its process
    held, `gpu` what it had taken of the GPU's memory after its first image, both in bytes.
    """

    name: str
    loaded: float
    first: float
    peak: int
    images: list[Image] = field(default_factory=list)
    gpu: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> SideResult:
        return cls(**{**record, "images": [Image(**image) for image in record["images"]]})

    def seconds(self, clock: Clock = "wall") -> list[float]:
        """Of each round's image."""
        return [image.seconds(clock) for image in self.images]

    def steps(self) -> list[float]:
        """Of each round, seconds of one step, see `Image.step`."""
        return [image.step() for image in self.images]


def faster(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times faster `fast` is: the median of the rounds' own ratios."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def in_turns(
    sides: Sequence[Side],
    *,
    rounds: int,
    steps: int,
    turn: float | None,
    kept: Path,
    gpu_memory: Callable[[], int] = lambda: 0,
) -> tuple[dict[str, SideResult], dict[str, str]]:
    """The result of every side by name; and of each side that died, why.

    All are started, and each makes an image of one step. Then in every round each makes an image of `steps` steps. They
    take turns of `turn` seconds, because a machine's speed changes within seconds; None: each makes a whole image.

    `gpu_memory` gives the bytes that all processes have of the GPU. It is read around each side's first image, when no
    other side does anything: allocators keep what they once had.

    A group of sides that was measured the same way and is still in `kept` is not measured again.
    """
    request = json.loads(json.dumps([rounds, steps, turn, *map(asdict, sides)], default=str))
    if kept.exists():
        record = json.loads(kept.read_text())
        if record["asked"] == request:
            return {name: SideResult.of(results) for name, results in record["found"].items()}, record["died"]
    results: dict[str, SideResult] = {}
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
        progress = stack.enter_context(tqdm(desc="  in turns", unit="turn"))
        for _ in range(rounds):
            images = deque((process, process.image(steps, turn)) for process in live)
            while images:
                process, image = images.popleft()
                try:
                    next(image)
                    images.append((process, image))
                except StopIteration:
                    pass
                except SideDied as death:
                    died[process.side.name] = str(death)
                    live.remove(process)
                    process.end()
                progress.update()
        results = {process.side.name: process.result() for process in live}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"asked": request, "found": {n: asdict(f) for n, f in results.items()}, "died": died}))
    return results, died


def first_image(side: Side, *, cold: bool, files: Sequence[Path]) -> float:
    """Seconds from a process's start to its first image, of one step; `cold`: the page cache has none of these folders.

    Raises: SideDied.
    """
    if cold:
        for folder in files:
            _forget(folder)
    with _running(side) as process:
        process.load()
        seconds = process.result().first
    print(f"  {side.name}, {'cold' if cold else 'warm'}: {seconds:.1f} s", flush=True)
    return seconds


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
        script, arguments = Path(__file__).with_name("side.py"), json.dumps(dict(side.arguments))
        with log.open("wb") as errors:
            self._child = subprocess.Popen(
                [side.python, script, side.kind, arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=_environment(int(side.arguments["threads"])),
                start_new_session=True,  # so that what it starts itself, such as compilers, ends with it
            )

    def load(self) -> None:
        """Wait until it is loaded and has made an image of one step. Raises: SideDied."""
        if self._answer(self.side.patience) is None:
            raise self._silent()
        self._loaded = time.perf_counter() - self._started
        for _ in self.image(1, None):
            pass
        self._first = time.perf_counter() - self._started
        self._images.clear()

    def image(self, steps: int, turn: float | None) -> Iterator[None]:
        """Let it make one image, in turns of so many seconds (None: in one): it yields after each but the last, and
        the side does nothing until it is asked to go on. Raises: SideDied.
        """
        assert self._child.stdin
        turns: list[Span] = []
        left = self.side.patience
        while True:
            begun = time.monotonic()
            if turns:
                os.kill(self._child.pid, signal.SIGCONT)
            else:
                with suppress(BrokenPipeError):  # it has died: there is no answer either
                    self._child.stdin.write(f"{steps}\n")
                    self._child.stdin.flush()
            if record := self._answer(left if turn is None else min(turn, left)):
                self._images.append(Image.of(record, [*turns, (begun, time.monotonic())]))
                return
            os.kill(self._child.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            turns.append((begun, time.monotonic()))
            left -= turns[-1][1] - begun
            if left <= 0:
                raise self._silent()
            yield

    def _silent(self) -> SideDied:
        return SideDied(f"no answer in {self.side.patience:g} s")

    def result(self) -> SideResult:
        return SideResult(self.side.name, self._loaded, self._first, self._peak, list(self._images), self.gpu)

    def end(self) -> None:
        if self._child.returncode is None:
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.communicate()

    def _answer(self, within: float) -> dict[str, Any] | None:
        """What it says next; None: nothing within so many seconds. Raises: SideDied."""
        assert self._child.stdout
        if not select.select([self._child.stdout], [], [], within)[0]:
            return None
        line = self._child.stdout.readline()
        if not line:
            errors = self._log.read_text(errors="replace").strip().splitlines()
            raise SideDied(errors[-1] if errors else f"exit status {self._child.wait()}")
        record: dict[str, Any] = json.loads(line)
        self._peak = max(self._peak, int(record["peak"]))
        return record


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
