"""One side of a comparison, in a process and an environment of its own: makes images when told to, a line for each.

`python benchmarks/peers/side.py KIND '{"folder": ..., ...}'` prints a line when it is loaded. For each line on standard
input, a number of steps, it makes one image and prints a line: the moments when it began, ended each step and was done,
each as the monotonic clock and as this process's CPU-seconds, and the process's peak memory in bytes; ours also when
each call of its engine began and ended. Whoever reads may stop it meanwhile. Nothing of this repository is imported but
by the kind that is ours: peers run in environments without it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROMPT = "a photograph of an astronaut riding a horse"
GUIDANCE = 7.5
_PR_SET_PDEATHSIG = 1  # prctl(2)
Mark = Callable[[], object]
# An image of so many steps; `mark` is to be called at the end of each. What it returns is told besides.
Draw = Callable[[int, Mark], dict[str, Any] | None]


def diffusers(
    *, folder: str, dtype: str, compiled: bool = False, threads: int, device: str = "cpu", size: int | None = None
) -> Draw:
    """What a user of PyTorch has: the pipeline, eager or with its UNet compiled."""
    import torch
    from diffusers import DiffusionPipeline

    torch.set_num_threads(threads)
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=getattr(torch, dtype)).to(device)
    if compiled:
        pipeline.unet = torch.compile(pipeline.unet)
    return _pipeline(pipeline, size)


def bundle(*, store: str, model: str, target: str, size: int, threads: int) -> Draw:
    """Ours: the runtime's parts on one thread, one image at a time as the others are."""
    from benchmarks.subjects.engine import InProcess, TimedEngine

    engine = InProcess(target, threads, Path(store), model, size=size, max_rows=2)
    timed = TimedEngine(engine.engine)
    engine.use(timed)

    def draw(steps: int, mark: Mark) -> dict[str, Any]:
        timed.calls.clear()
        trajectory = engine.trajectory(PROMPT, 0, steps, GUIDANCE, size)
        while trajectory.steps_left:
            engine.step([trajectory])
            mark()
        engine.runner.decode(trajectory.latents)
        return {"engine": timed.calls}

    return draw


def optimum(*, folder: str, precision: str, threads: int) -> Draw:
    """optimum-intel, its graphs made static as its documentation recommends."""
    from optimum.intel import OVStableDiffusionPipeline

    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": str(threads)}
    pipeline = OVStableDiffusionPipeline.from_pretrained(folder, compile=False, ov_config=options)
    size = _pixels(folder)
    pipeline.reshape(1, size, size, 1)
    pipeline.compile()
    return _pipeline(pipeline)


def genai(*, folder: str, precision: str, threads: int) -> Draw:
    """openvino-genai, static as well."""
    import openvino_genai

    size = _pixels(folder)
    pipeline = openvino_genai.Text2ImagePipeline(folder)
    pipeline.reshape(1, size, size, GUIDANCE)
    pipeline.compile("CPU", INFERENCE_PRECISION_HINT=precision, INFERENCE_NUM_THREADS=threads)

    def draw(steps: int, mark: Mark) -> None:
        pipeline.generate(
            PROMPT,
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            callback=lambda *_: bool(mark()),  # false: go on
        )

    return draw


KINDS: dict[str, Callable[..., Draw]] = {kind.__name__: kind for kind in (diffusers, bundle, optimum, genai)}


def _pipeline(pipeline: Any, size: int | None = None) -> Draw:
    """`size`: the side of its images in pixels; None: the one that it was made for."""
    sized = {} if size is None else {"width": size, "height": size}
    pipeline.set_progress_bar_config(disable=True)

    def draw(steps: int, mark: Mark) -> None:
        def ended(_pipeline: Any, _step: int, _timestep: Any, changed: dict[str, Any]) -> dict[str, Any]:
            mark()
            return changed

        pipeline(PROMPT, num_inference_steps=steps, guidance_scale=GUIDANCE, callback_on_step_end=ended, **sized)

    return draw


def _pixels(folder: str) -> int:
    """The side of an image that the UNet was made for."""
    return int(json.loads((Path(folder) / "unet" / "config.json").read_text())["sample_size"]) * 8


def _peak_bytes() -> int:
    """The high-water mark of this process's resident memory since it began (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Load the side that the arguments name, then answer the lines of standard input until it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # it may be stopped when whoever started it dies
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error

    def tell(**content: Any) -> None:
        output.write(json.dumps({**content, "peak": _peak_bytes()}) + "\n")
        output.flush()

    moments: list[tuple[float, float]] = []

    def mark() -> None:
        moments.append((time.monotonic(), time.process_time()))

    draw = KINDS[sys.argv[1]](**json.loads(sys.argv[2]))
    tell(loaded=True)
    for line in sys.stdin:
        moments.clear()
        mark()
        besides = draw(int(line), mark) or {}
        mark()
        tell(moments=moments, **besides)


if __name__ == "__main__":
    main()
