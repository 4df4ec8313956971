"""Bundles that a benchmark needs, built by the command line as a user would; built once, finished stages are kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PLAIN, MERGED = "sd15", "sd15-merged"
# Calibration and verify draw at a sixteenth of the area, from one prompt: what a call costs depends on neither.
_BRIEFLY = ("--steps", "20", "--width", "128", "--height", "128", "--verify-steps", "1", "--repeats", "0")
_PROMPT = "a photograph of an astronaut riding a horse\n"


@dataclass(frozen=True)
class Cost:
    """What building a bundle took: wall seconds, and the most memory that its process held at once, in bytes."""

    seconds: float = 0.0
    peak: int = 0

    @classmethod
    def of(cls, name: str, work: Path) -> Cost:
        """As `build` has written it beside the store; nothing for a bundle that is older than these records."""
        record = work / f"{name}.json"
        return cls(**json.loads(record.read_text())) if record.exists() else cls()


def targets(*names: str) -> list[str]:
    """`--target` options."""
    return [argument for name in names for argument in ("--target", f"openvino-{name}")]


def sd15(checkpoint: Path, work: Path) -> Path:
    """The object store, a folder, with `PLAIN` and `MERGED` (half its tokens). Raises: CalledProcessError."""
    work.mkdir(parents=True, exist_ok=True)
    prompts = work / "prompts.txt"
    prompts.write_text(_PROMPT)
    briefly = [*_BRIEFLY, "--prompts", str(prompts)]
    build(checkpoint, work, PLAIN, [*targets("int8", "bf16", "fp32"), *briefly])
    return build(checkpoint, work, MERGED, [*targets("int8"), "--token-merging", "0.5", *briefly], like=PLAIN)


def build(checkpoint: Path, work: Path, name: str, options: Sequence[str], like: str = "") -> Path:
    """The object store in `work` with a bundle of that name, and beside it what it cost: see `Cost`. `like` names
    another of this checkpoint: finished stages that are the same for both are not done again, nor in this one's cost.

    Raises: CalledProcessError.
    """
    store = work / "store"
    if not (store / "models" / name / "current.json").exists():
        print(f"building the bundle {name} (minutes, once) ...", flush=True)
        command = [sys.executable, "-m", "model_build", "build", str(checkpoint), "--name", name]
        command += ["--store", str(store), "--work", str(work / "build"), *options]
        known, stages = work / "build" / like, work / "build" / name
        if like and known.exists() and not stages.exists():
            shutil.copytree(known, stages, copy_function=os.link)  # a stage is replaced whole, never written into
        before = Cost.of(name, work)  # of a build that was broken off, whose finished stages are kept
        status, cost = _run(command)
        whole = Cost(round(before.seconds + cost.seconds, 1), max(before.peak, cost.peak))
        (work / f"{name}.json").write_text(json.dumps(asdict(whole)) + "\n")
        if status:
            raise subprocess.CalledProcessError(status, command)
    return store


def _run(command: Sequence[str]) -> tuple[int, Cost]:
    """A command's exit status and what it cost; the system counts no less memory for it than this process has."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, Cost(time.perf_counter() - started, usage.ru_maxrss * 1024)
