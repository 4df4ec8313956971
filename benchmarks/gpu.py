"""Stable Diffusion 1.5 on this machine's GPU: one image, full batches, and requests that arrive by chance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import typer

from benchmarks import arrivals, checkpoints
from benchmarks.engine import InProcess
from benchmarks.measure import Row, keep
from benchmarks.sides import Found, Side, faster, in_turns
from darkroom import catalog, gpu
from darkroom.storage import open_store
from model_build.device import lacks
from runtime import logs

COMMAND = "make bench PART=gpu"
WORK = Path(".darkroom") / "bench"
NAME = "sd15-gpu"
PROMPT = "a photograph of an astronaut riding a horse"
EAGER, COMPILED = "diffusers fp16", "torch.compile fp16"
PLAIN = "onnx-cuda-fp16-plain"
_IMAGES = (1, 2, 4, 8)  # guided ones in a call, two rows each
_GFLOP_ROW, _GFLOP_DECODE = 803, 2514  # of the UNet's rows and the decoder at 512 x 512


@dataclass(frozen=True)
class Trial:
    """How much of it, and where; `narrow` divides the network's widths. Anything but the defaults tries the
    benchmark and keeps nothing.
    """

    device: Literal["cuda", "cpu"] = "cuda"
    narrow: int = 1
    size: int = 512
    steps: int = 20
    rounds: int = 3
    requests: int = 120


AS_COMMITTED = Trial()


def run(trial: Trial = AS_COMMITTED) -> None:
    """Measure, print and keep everything of this part. Ends with a sentence where there is no GPU to measure."""
    targets = _targets(trial)
    logs.configure("warning")
    work = (WORK / f"gpu-{trial.device}-{trial.narrow}").resolve()
    store = _built(checkpoints.write("sd15", work / "checkpoint", narrow=trial.narrow), work, targets, trial)
    offered = [target.name for target in catalog.load_manifest(open_store(str(store)), NAME).targets]
    sides = _sides(work / "checkpoint", store, offered, trial)
    print(f"one image: {', '.join(side.name for side in sides)}", flush=True)
    kept = work / "results.json"
    found, died = in_turns(sides, rounds=trial.rounds, steps=trial.steps, kept=kept)
    kept.unlink()
    engine = InProcess(offered[0], _threads(), store, NAME)
    print(f"full batches on {offered[0]}", flush=True)
    batches = {images: _rate(engine, images, trial) for images in _IMAGES}
    peak = _fastest_product(trial.device)
    print("requests that arrive by chance", flush=True)
    chance = arrivals.compare(engine, arrivals.Effort(trial.requests, trial.rounds, trial.requests // 5))
    made = [
        *compared(found, offered, trial.steps),
        *saturated(batches, peak, trial.steps),
        *(replace(row, part="gpu", command=COMMAND) for row in arrivals.rows(chance.found, chance.rates, chance.short)),
    ]
    report = json.loads((store / catalog.bundle_key(NAME, engine.manifest.version, "report.json")).read_text())
    raw = {
        "gpu": _gpu(),
        "found": found,
        "not_measured": died,
        "images_a_second": batches,
        "fastest_product_tflops": peak,
        "parity": {target["name"]: target["psnr"] for target in report["targets"]},
        "fused": {target["name"]: target.get("fusion", {}) for target in report["targets"]},
    }
    for name, reason in died.items():
        print(f"  {name} was not measured: {reason}", flush=True)
    if trial != AS_COMMITTED:
        print(*made, sep="\n")
        return
    keep("gpu", made, raw)


def _targets(trial: Trial) -> list[str]:
    """What can be compiled here, the preferred one first."""
    if trial.device == "cpu":
        return ["onnx-cpu-fp16"]
    missing = lacks(gpu.CUDA)
    if missing:
        raise SystemExit(
            f"The part gpu needs an NVIDIA GPU, and here {missing[0].what}; "
            "`python -m model_build doctor` lists all that is missing."
        )
    return [*(() if lacks(gpu.TENSORRT) else ("tensorrt-fp16",)), "onnx-cuda-fp16", PLAIN]


def _built(checkpoint: Path, work: Path, targets: Sequence[str], trial: Trial) -> Path:
    """The object store with the bundle. Raises: CalledProcessError."""
    store = work / "store"
    print(f"building {', '.join(targets)} (minutes, once) ...", flush=True)
    command = [sys.executable, "-m", "model_build", "build", str(checkpoint), "--name", NAME, "--store", str(store)]
    command += ["--work", str(work / "build"), "--rows", str(2 * _IMAGES[-1]), "--verify-steps", "4", "--repeats", "0"]
    size = ["--width", str(trial.size), "--height", str(trial.size), "--max-size", "512"]
    chosen = [option for target in targets for option in ("--target", target)]
    subprocess.run([*command, *size, *chosen, "--steps", str(trial.steps)], check=True, stdout=subprocess.DEVNULL)
    return store


def _sides(checkpoint: Path, store: Path, targets: Sequence[str], trial: Trial) -> list[Side]:
    torch = {"folder": str(checkpoint), "threads": _threads(), "dtype": "float16", "device": trial.device}
    torch["size"] = trial.size
    ours = {"store": str(store), "model": NAME, "size": trial.size, "threads": _threads()}
    return [
        Side(EAGER, "diffusers", torch),
        *([Side(COMPILED, "diffusers", {**torch, "compiled": True})] if trial.device == "cuda" else []),
        *(Side(target, "bundle", {**ours, "target": target}) for target in targets),
    ]


def _rate(engine: InProcess, images: int, trial: Trial) -> float:
    """Images a second when so many share every UNet call, the best of the rounds; the first, unmeasured, warms up."""
    seconds = []
    for _ in range(1 + trial.rounds):
        batch = [engine.trajectory(PROMPT, seed, trial.steps, 7.5, trial.size) for seed in range(images)]
        started = time.perf_counter()
        engine.finish(batch)
        seconds.append(time.perf_counter() - started)
    return images / min(seconds[1:])


def _fastest_product(device: str) -> float:
    """10^12 operations a second of torch's bfloat16 matrix product, the best of a few sizes."""
    import torch

    best = 0.0
    for side in (4096, 8192) if device == "cuda" else (512,):
        a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
        for _ in range(10):
            started = time.perf_counter()
            float((a @ a)[0, 0])  # waits for the device
            best = max(best, 2 * side**3 / (time.perf_counter() - started) / 1e12)
    return best


def compared(found: Mapping[str, Found], targets: Sequence[str], steps: int) -> Iterator[Row]:
    """One image: ours against diffusers, and the fused CUDA engine against the plain one."""
    pairs = [
        *((COMPILED, target, 1.6 if target == targets[0] else None) for target in targets),
        *((EAGER, target, None) for target in targets),
        (PLAIN, "onnx-cuda-fp16", None),
    ]
    for slow, fast, goal in pairs:
        if slow in found and fast in found and slow != fast:
            times = round(faster(found[slow], found[fast], steps), 2)
            told, met = (None, None) if goal is None else (f">= {goal}", times >= goal)
            yield Row("gpu", f"one image, {slow} / {fast}", times, "x", COMMAND, told, met)
    for name, each in found.items():
        yield Row("gpu", f"one image, {name}", round(1000 * median(each.seconds(steps))), "ms", COMMAND)


def saturated(batches: Mapping[int, float], peak: float, steps: int) -> Iterator[Row]:
    """Images a second in the best batch, and what share of the fastest matrix product that is."""
    images, rate = max(batches.items(), key=lambda item: item[1])
    share = round(rate * (2 * steps * _GFLOP_ROW + _GFLOP_DECODE) / 1000 / peak, 3)
    yield Row("gpu", f"images a second, {images} at once", round(rate, 2), "images/s", COMMAND)
    yield Row("gpu", "share of the measured bf16 matrix peak", share, "share", COMMAND, ">= 0.35", share >= 0.35)
    yield Row("gpu", "fastest bf16 matrix product", round(peak, 1), "TFLOP/s", COMMAND)


def _gpu() -> dict[str, Any]:
    try:
        return vars(gpu.find_gpu())
    except gpu.NoGpu as reason:
        return {"name": f"none: {reason}"}


def _threads() -> int:
    return len(os.sched_getaffinity(0))


def main(
    device: Annotated[str, typer.Option(help="cpu: a rehearsal, of use to see that everything runs.")] = "cuda",
    narrow: Annotated[int, typer.Option(min=1, max=16, help="A narrower network; keeps nothing.")] = 1,
    size: Annotated[int, typer.Option(min=64, max=512, help="Side of the images in pixels.")] = 512,
    steps: Annotated[int, typer.Option(min=2, max=50)] = 20,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    requests: Annotated[int, typer.Option(min=10)] = 120,
) -> None:
    """As `make bench PART=gpu`, or smaller, or without a GPU."""
    run(Trial("cpu" if device == "cpu" else "cuda", narrow, size, steps, rounds, requests))


if __name__ == "__main__":
    typer.run(main)
