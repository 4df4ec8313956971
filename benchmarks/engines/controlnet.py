"""What a ControlNet costs at Stable Diffusion 1.5's shapes: a request under control, and those in a batch with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, Timing, interleaved, judged, keep, medians, ratio
from benchmarks.subjects import bundles, checkpoints
from benchmarks.subjects.engine import InProcess
from benchmarks.subjects.plain_unet import open_plain_unet
from model_build.proof.control import control_image
from runtime.arrays import Floats
from runtime.denoising.control import AppliedControl
from runtime.denoising.trajectory import Trajectory
from runtime.pictures.canny import canny

COMMAND = "make bench PART=controlnet"
_row = partial(judged, "controlnet", COMMAND)
WORK = Path(".darkroom") / "bench" / "sd15"
MODEL, TARGET, THREADS = "sd15-canny", "openvino-bf16", 2
STEPS, SIZE, GUIDANCE = 20, 512, 7.5
PROMPT = "a photograph of an astronaut riding a horse"
# Verify draws at a quarter of the area in one step: what a call costs depends on neither.
_BRIEFLY = ("--width", "256", "--height", "256", "--verify-steps", "1", "--repeats", "0")
_UNDER_CONTROL, _BESIDE = 1.6, 1.1  # the goals
_ROUNDS = {1: 5, 2: 5, 4: 3}  # by the number of requests in a batch

PLAIN, CONTROLLED = "a guided step without control", "a guided step with control"
TAKES_NONE = "a guided step, UNet that takes no residuals"
ENDS, EDGES = "encode and decode", "canny"

Sides = dict[str, Callable[[], object]]


def run(narrow: int = 1, work: Path = WORK) -> None:
    """Measure, print and keep everything of this part; `narrow` divides the networks' widths, which tries the benchmark
    and keeps nothing.
    """
    engine = InProcess(TARGET, THREADS, build(work, narrow), MODEL)
    raw: dict[str, Any] = {"threads": THREADS, "steps": f"{STEPS} put together from 1"}
    rows = [*_alone(engine, raw), *_beside(engine, raw, 2), *_beside(engine, raw, 4)]
    if narrow == 1:
        keep("controlnet", rows, raw)


def build(work: Path, narrow: int = 1) -> Path:
    """The object store, a folder, that has Stable Diffusion 1.5 with a ControlNet, built as a user would; once.

    Raises: CalledProcessError.
    """
    work = work.resolve()
    checkpoint = checkpoints.write("sd15", work / "checkpoint", narrow=narrow)
    controlnet = checkpoints.write_controlnet(work / "controlnet", narrow=narrow)
    options = ["--target", TARGET, "--controlnet", f"canny={controlnet}", "--steps", str(STEPS), *_BRIEFLY]
    return bundles.build(checkpoint, work, MODEL, options)


def _trajectory(engine: InProcess, seed: int, *, controlled: bool = False) -> Trajectory:
    """One guided image, at its first step."""
    control = AppliedControl("controlnet_canny", control_image(SIZE, SIZE), 1.0, range(STEPS))
    return engine.trajectory(PROMPT, seed, STEPS, GUIDANCE, SIZE, (control,) if controlled else ())


def _alone(engine: InProcess, raw: dict[str, Any]) -> Iterator[Row]:
    print("one request at a time")
    plain, controlled = _trajectory(engine, 0), _trajectory(engine, 1, controlled=True)
    drawing = np.ascontiguousarray((255 * control_image(SIZE, SIZE)).astype(np.uint8).transpose(1, 2, 0))

    def ends() -> None:
        _trajectory(engine, 2)  # encodes its prompt
        engine.runner.decode(plain.latents)

    unet = open_plain_unet(engine.bundle, THREADS)
    inputs: dict[str, Floats] = {
        "latents": np.repeat(plain.latents[None], plain.rows, axis=0),
        "timestep": np.full(plain.rows, plain.table.timestep(0), np.float32),
        **plain.conditioning,
    }
    sides: Sides = {
        PLAIN: engine.stepping([plain], [0]),
        TAKES_NONE: lambda: unet(inputs),
        CONTROLLED: engine.stepping([controlled], [0]),
        ENDS: ends,
        EDGES: lambda: canny(drawing, 100, 200),
    }
    raw["alone"] = timings = interleaved(sides, _ROUNDS[1])
    for name, timing in medians(timings).items():
        yield _row(f"{name}, wall", timing.wall, "s")
        yield _row(f"{name}, CPU", timing.cpu, "s")
    without = [_request(step, ends) for step, ends in zip(timings[PLAIN], timings[ENDS], strict=True)]
    under = [
        _request(step, ends, edges)
        for step, ends, edges in zip(timings[CONTROLLED], timings[ENDS], timings[EDGES], strict=True)
    ]
    request = f"a request of {STEPS} steps, with control / without"
    yield _row(request, ratio(under, without), at_most=_UNDER_CONTROL)
    yield _row(f"{request}, CPU", ratio(under, without, "cpu"))
    residuals = "a step without control, UNet that takes residuals / that takes none"
    yield _row(residuals, ratio(timings[PLAIN], timings[TAKES_NONE]), at_most=_BESIDE)
    yield _row(f"{residuals}, CPU", ratio(timings[PLAIN], timings[TAKES_NONE], "cpu"))


def _request(step: Timing, *once: Timing) -> Timing:
    """A whole request: its steps, and what it needs once."""
    return Timing(
        STEPS * step.wall + sum(each.wall for each in once), STEPS * step.cpu + sum(each.cpu for each in once)
    )


def _beside(engine: InProcess, raw: dict[str, Any], requests: int) -> Iterator[Row]:
    """What those without control wait longer for where one of the batch is under control."""
    print(f"{requests} requests in a batch")
    plain = [_trajectory(engine, seed) for seed in range(requests)]
    mixed = [*plain[1:], _trajectory(engine, 0, controlled=True)]
    first = [0] * requests
    sides: Sides = {"none": engine.stepping(plain, first), "one": engine.stepping(mixed, first)}
    raw[f"{requests} requests"] = timings = interleaved(sides, _ROUNDS[requests])
    step = f"a step of {requests} requests, one under control / none"
    yield _row(step, ratio(timings["one"], timings["none"]), at_most=_BESIDE)
    yield _row(f"{step}, CPU", ratio(timings["one"], timings["none"], "cpu"))
