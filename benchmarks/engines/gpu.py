"""Stable Diffusion 1.5 and XL on this machine's GPU: one image, full batches, and requests that arrive by chance."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import typer

from benchmarks.engines import gpu_memory
from benchmarks.measure import Row, judged, keep
from benchmarks.peers.sides import Side, SideResult, faster, in_turns
from benchmarks.serving import arrivals
from benchmarks.subjects import checkpoints
from benchmarks.subjects.engine import InProcess
from darkroom import gpu, logs
from darkroom.bundles import catalog
from darkroom.storage import open_store
from model_build.compile.device import lacks
from model_build.hardware import threads

COMMAND = "make bench PART=gpu"
WORK = Path(".darkroom") / "bench"
PROMPT = "a photograph of an astronaut riding a horse"
EAGER, COMPILED = "diffusers fp16", "torch.compile fp16"
PLAIN = "onnx-cuda-fp16-plain"
TENSORRT, TENSORRT_INT8 = "tensorrt-fp16", "tensorrt-int8"
_IMAGES = (1, 2, 4, 8)  # guided ones in a call, two rows each


@dataclass(frozen=True)
class Architecture:
    """An architecture of `subjects.checkpoints`. `size` is the side of its images in pixels; `row` and `decode` are
    10^9 operations of one row of the UNet and of the decoder, by torch's own counter.
    """

    name: str
    size: int
    row: int
    decode: int
    arrivals: bool = False
    int8: bool = False  # calibrated on the CPU, which takes the larger one hours


SD15 = Architecture("sd15", 512, 803, 2514, arrivals=True, int8=True)
SDXL = Architecture("sdxl", 1024, 6761, 10470)


@dataclass(frozen=True)
class Trial:
    """How much of it, and where; `narrow` divides the network's widths. Anything but the defaults tries the
    benchmark and keeps nothing.
    """

    device: Literal["cuda", "cpu"] = "cuda"
    narrow: int = 1
    size: int | None = None
    steps: int = 20
    rounds: int = 3
    requests: int = 120


AS_COMMITTED = Trial()


def run(trial: Trial = AS_COMMITTED) -> None:
    """Measure, print and keep everything of this part. Ends with a sentence where there is no GPU to measure."""
    targets = _targets(trial)
    logs.configure("warning", sys.stdout)
    peak = _fastest_product(trial.device)
    measured = [_measured(shape, targets, peak, trial) for shape in (SD15, SDXL)]
    all_rows = [row for rows, _ in measured for row in rows]
    if trial != AS_COMMITTED:
        print(*all_rows, sep="\n")
        return
    raw = {shape.name: details for shape, (_, details) in zip((SD15, SDXL), measured, strict=True)}
    keep("gpu", all_rows, {"gpu": _gpu(), "fastest_product_tflops": peak, **raw})


def _measured(
    shape: Architecture, targets: Sequence[str], peak: float, trial: Trial
) -> tuple[list[Row], dict[str, Any]]:
    """All of one architecture: its rows, and what they come from."""
    shape = replace(shape, size=trial.size or shape.size)
    work = (WORK / f"gpu-{shape.name}-{trial.device}-{trial.narrow}").resolve()
    checkpoint = checkpoints.write(shape.name, work / "checkpoint", narrow=trial.narrow)
    store = _built(checkpoint, shape, work, chosen(shape, targets), trial)
    name = f"{shape.name}-gpu"
    offered = [target.name for target in catalog.load_manifest(open_store(str(store)), name).targets]
    sides = _sides(checkpoint, store, shape, offered, trial)
    print(f"{shape.name}, one image: {', '.join(side.name for side in sides)}", flush=True)
    kept = work / "results.json"
    results, died = in_turns(
        sides,
        rounds=trial.rounds,
        steps=trial.steps,
        turn=None,  # a GPU goes on with what it was given while the process is stopped
        kept=kept,
        gpu_memory=gpu_memory.used,
    )
    kept.unlink()
    engine = InProcess(offered[0], threads(), store, name)
    print(f"{shape.name}, full batches on {offered[0]}", flush=True)
    batches = {images: _rate(engine, images, shape, trial) for images in _IMAGES}
    measured = [*compared(shape, results, offered), *saturated(shape, batches, peak, trial.steps)]
    if shape.arrivals:
        print("requests that arrive by chance", flush=True)
        chance = arrivals.compare(engine, arrivals.RequestCounts(trial.requests, trial.rounds, trial.requests // 5))
        rows = arrivals.rows(chance.answered, chance.rates, chance.short)
        measured += [replace(row, part="gpu", command=COMMAND) for row in rows]
    report = json.loads((store / catalog.bundle_key(name, engine.manifest.version, "report.json")).read_text())
    for side, reason in died.items():
        print(f"  {side} was not measured: {reason}", flush=True)
    return measured, {
        "found": results,
        "not_measured": died,
        "images_a_second": batches,
        "parity": {target["name"]: target["psnr"] for target in report["targets"]},
        "fused": {target["name"]: target.get("fusion", {}) for target in report["targets"]},
        "quantized": {target["name"]: target.get("quantization", {}) for target in report["targets"]},
    }


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
    return [*(() if lacks(gpu.TENSORRT) else (TENSORRT,)), "onnx-cuda-fp16", PLAIN]


def chosen(shape: Architecture, targets: Sequence[str]) -> list[str]:
    """Those of the targets that can be compiled here, and int8 where TensorRT is one and calibration is no matter of
    hours.
    """
    return [*targets, *([TENSORRT_INT8] if shape.int8 and TENSORRT in targets else [])]


def _built(checkpoint: Path, shape: Architecture, work: Path, targets: Sequence[str], trial: Trial) -> Path:
    """The object store with the bundle. Raises: CalledProcessError."""
    store = work / "store"
    print(f"{shape.name}, building {', '.join(targets)} (minutes, once) ...", flush=True)
    command = [sys.executable, "-m", "model_build", "build", str(checkpoint), "--name", f"{shape.name}-gpu"]
    command += ["--store", str(store), "--work", str(work / "build"), "--rows", str(2 * _IMAGES[-1])]
    command += ["--verify-steps", "4", "--repeats", "0"]
    pixels = str(shape.size)
    size = ["--width", pixels, "--height", pixels, "--max-size", pixels, "--max-pixels", str(shape.size**2)]
    chosen = [option for target in targets for option in ("--target", target)]
    subprocess.run([*command, *size, *chosen, "--steps", str(trial.steps)], check=True, stdout=subprocess.DEVNULL)
    return store


def _sides(checkpoint: Path, store: Path, shape: Architecture, targets: Sequence[str], trial: Trial) -> list[Side]:
    torch = {"folder": str(checkpoint), "threads": threads(), "dtype": "float16", "device": trial.device}
    torch["size"] = shape.size
    ours = {"store": str(store), "model": f"{shape.name}-gpu", "size": shape.size, "threads": threads()}
    return [
        Side(EAGER, "diffusers", torch),
        *([Side(COMPILED, "diffusers", {**torch, "compiled": True})] if trial.device == "cuda" else []),
        *(Side(target, "bundle", {**ours, "target": target}) for target in targets),
    ]


def _rate(engine: InProcess, images: int, shape: Architecture, trial: Trial) -> float:
    """Images a second when so many share every UNet call, the best of the rounds; the first, unmeasured, warms up."""
    seconds = []
    for _ in range(1 + trial.rounds):
        batch = [engine.trajectory(PROMPT, seed, trial.steps, 7.5, shape.size) for seed in range(images)]
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


def compared(shape: Architecture, results: Mapping[str, SideResult], targets: Sequence[str]) -> Iterator[Row]:
    """One image: ours against diffusers, and the fused CUDA engine against the plain one; the memory of each side."""
    pairs = [
        *((COMPILED, target, 1.6 if target == targets[0] else None) for target in targets),
        *((EAGER, target, None) for target in targets),
        (PLAIN, "onnx-cuda-fp16", None),
    ]
    for slow, fast, goal in pairs:
        if slow in results and fast in results and slow != fast:
            times = faster(results[slow].seconds(), results[fast].seconds())
            yield judged("gpu", COMMAND, f"{shape.name}, one image, {slow} / {fast}", times, at_least=goal)
    for name, each in results.items():
        yield Row("gpu", f"{shape.name}, one image, {name}", round(1000 * median(each.seconds())), "ms", COMMAND)
        for kind, size in (("GPU memory", each.gpu), ("peak resident memory", each.peak)):
            yield Row("gpu", f"{shape.name}, {kind}, {name}", round(size / 2**30, 2), "GiB", COMMAND)


def saturated(shape: Architecture, batches: Mapping[int, float], peak: float, steps: int) -> Iterator[Row]:
    """Images a second in the best batch, and what share of the fastest matrix product that is."""
    images, rate = max(batches.items(), key=lambda item: item[1])
    share = rate * (2 * steps * shape.row + shape.decode) / 1000 / peak
    yield Row("gpu", f"{shape.name}, images a second, {images} at once", round(rate, 2), "images/s", COMMAND)
    yield judged("gpu", COMMAND, f"{shape.name}, share of the measured bf16 matrix peak", share, "share", at_least=0.35)
    yield Row("gpu", f"{shape.name}, fastest bf16 matrix product", round(peak, 1), "TFLOP/s", COMMAND)


def _gpu() -> dict[str, Any]:
    try:
        return vars(gpu.find_gpu())
    except gpu.NoGpu as reason:
        return {"name": f"none: {reason}"}


def main(
    device: Annotated[str, typer.Option(help="cpu: a rehearsal, of use to see that everything runs.")] = "cuda",
    narrow: Annotated[int, typer.Option(min=1, max=16, help="A narrower network; keeps nothing.")] = 1,
    size: Annotated[int | None, typer.Option(min=64, max=1024, help="Side of the images in pixels.")] = None,
    steps: Annotated[int, typer.Option(min=2, max=50)] = 20,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    requests: Annotated[int, typer.Option(min=10)] = 120,
) -> None:
    """As `make bench PART=gpu`, or smaller, or without a GPU."""
    run(Trial("cpu" if device == "cpu" else "cuda", narrow, size, steps, rounds, requests))


if __name__ == "__main__":
    typer.run(main)
