"""Stable Diffusion 1.5 on this processor: against what a user would pick today, and against the processor's limit."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.engines import limits
from benchmarks.measure import Row, judged, keep
from benchmarks.peers import environment as peers
from benchmarks.peers.sides import Side, SideDied, SideResult, faster, first_image, in_turns
from benchmarks.pictures import chart
from benchmarks.sizes import environment, image
from benchmarks.subjects import bundles, checkpoints
from darkroom.bundles.catalog import load_manifest
from darkroom.bundles.manifest import EngineManifest
from darkroom.storage import open_store
from model_build.hardware import threads

COMMAND = "make bench PART=cpu"
WORK = Path(".darkroom") / "bench"
STEPS = 20
SIZE = 512
_TURN = 0.25  # seconds
MERGED = "int8 + token merging 0.5"
DIFFUSERS, BF16, COMPILED = "diffusers fp32", "diffusers bf16", "torch.compile bf16"
_TORCH = ("torch", "diffusers", "transformers", "accelerate")
_ROOM = 40 << 30  # bytes: the checkpoint, its bundles and what they were built of, the peers' environment and exports
_GFLOP_A_ROW = 803  # of the UNet at 512 x 512, without what attention's softmax costs

_row = partial(judged, "cpu", COMMAND)


def run(narrow: int = 1) -> None:
    """Measure, print and keep everything of this part; groups that an interrupted run has measured are kept.

    `narrow` divides the network's widths, which tries the benchmark, keeps nothing and measures nothing.
    """
    work = WORK / (f"narrow-{narrow}" if narrow > 1 else "sd15")
    if narrow == 1 and not (work / "store").exists():
        check_room(Path.cwd())
    checkpoint = checkpoints.write("sd15", work.resolve() / "checkpoint", narrow=narrow)
    sides = _sides(checkpoint, work.resolve())
    died: dict[str, str] = {}
    groups: dict[str, tuple[str, ...]] = {
        "int8": ("int8", MERGED, "optimum int8", "genai int8"),
        "torch": (DIFFUSERS, BF16, COMPILED, MERGED),
        "f32": ("f32", "genai f32", "int8"),
        "bf16": ("bf16", "genai bf16"),
    }
    results = work / "results"
    measured: dict[str, dict[str, SideResult]] = {}
    for group, names in groups.items():
        print(f"{group}: {', '.join(name for name in names if name in sides)}", flush=True)
        measured[group], dead = in_turns(
            [sides[name] for name in names if name in sides],
            rounds=1,
            steps=STEPS,
            turn=_TURN,
            kept=results / f"{group}.json",
        )
        died |= dead
    print("process start to first image", flush=True)
    starts: dict[tuple[str, str], float] = {}
    for state in ("warm", "cold"):
        for name in (DIFFUSERS, "int8"):
            try:
                starts[name, state] = first_image(sides[name], cold=state == "cold", files=_read_from(sides[name]))
            except SideDied as death:
                died[f"{name}, {state} start"] = str(death)
    print("limits", flush=True)
    products = limits.peaks(threads())
    for name, reason in died.items():
        print(f"  {name} was not measured: {reason}", flush=True)
    rows = [*_compared(measured), *_started(starts), *_built(work), *_sizes(), *_limited(measured, products)]
    raw = {
        "steps": STEPS,
        "threads": threads(),
        "found": measured,
        "peers_int8": "int8 weights, as optimum's command line exports them without a data set",
        "not_measured": died,
        "first_image": {f"{name}, {state}": seconds for (name, state), seconds in starts.items()},
        "products_gflops": products,
    }
    if narrow > 1:
        print(*rows, sep="\n")
        return
    drawn = {name: (median(each.seconds()), each.peak) for name, each in _each(measured).items()}
    chart.bars("cpu", drawn, STEPS)
    keep("cpu", rows, raw)
    shutil.rmtree(results)  # the next run measures everything again


def check_room(folder: Path) -> None:
    """Ends the process with a sentence where `folder`'s disk is too small: sides that find it full go unmeasured."""
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        sys.exit(f"{COMMAND} takes {_ROOM >> 30} GB of disk once, and {free >> 30} GB are free: make room first.")


def _sides(checkpoint: Path, work: Path) -> dict[str, Side]:
    """By name; the peers' are left out where their environment cannot be made."""
    folder, cores = str(checkpoint), threads()
    store = bundles.sd15(checkpoint, work)
    ours = {"store": str(store), "size": SIZE, "threads": cores}
    sides = [
        Side(DIFFUSERS, "diffusers", {"folder": folder, "dtype": "float32", "threads": cores}),
        Side(BF16, "diffusers", {"folder": folder, "dtype": "bfloat16", "threads": cores}),
        Side(COMPILED, "diffusers", {"folder": folder, "dtype": "bfloat16", "compiled": True, "threads": cores}),
        *(
            Side(name, "bundle", {**ours, "model": bundles.PLAIN, "target": target})
            for name, target in (("f32", "openvino-fp32"), ("bf16", "openvino-bf16"), ("int8", "openvino-int8"))
        ),
        Side(MERGED, "bundle", {**ours, "model": bundles.MERGED, "target": "openvino-int8"}),
    ]
    if peers.environment():
        whole, int8 = (peers.export(checkpoint, work / f"peers-{kind}", kind) for kind in ("fp32", "int8"))
        sides += [
            Side(name, kind, {"folder": str(path), "precision": precision, "threads": cores}, peers.PYTHON)
            for name, kind, path, precision in (
                ("optimum int8", "optimum", int8, "bf16"),
                ("genai int8", "genai", int8, "bf16"),
                ("genai f32", "genai", whole, "f32"),
                ("genai bf16", "genai", whole, "bf16"),
            )
            if path
        ]
    return {side.name: side for side in sides}


def _compared(measured: Mapping[str, Mapping[str, SideResult]]) -> Iterator[Row]:
    """Images and steps of one group against another's, where both were measured."""
    images = (
        ("torch", DIFFUSERS, MERGED, 12.0),
        ("torch", BF16, MERGED, 6.0),
        ("torch", COMPILED, MERGED, 3.0),
        ("int8", "optimum int8", "int8", 1.2),
        ("int8", "genai int8", "int8", 1.2),
        ("f32", "genai f32", "f32", 1.0),
        ("bf16", "genai bf16", "bf16", 1.0),
    )
    for group, slow, fast, goal in images:
        group_results = measured[group]
        if slow in group_results and fast in group_results:
            ratio = faster(group_results[slow].seconds(), group_results[fast].seconds())
            yield _row(f"an image of {STEPS} steps, {slow} / {fast}", ratio, at_least=goal)
            cpu = faster(group_results[slow].seconds("cpu"), group_results[fast].seconds("cpu"))
            yield _row(f"the same in CPU-seconds, {slow} / {fast}", cpu)
    if {DIFFUSERS, MERGED} <= measured["torch"].keys():
        memory = measured["torch"][MERGED].peak / measured["torch"][DIFFUSERS].peak
        yield _row(f"peak memory, {MERGED} / {DIFFUSERS}", memory, at_most=0.2)
    for group, slow, fast, goal in (("f32", "f32", "int8", 2.9), ("int8", "int8", MERGED, 1.35)):
        group_results = measured[group]
        if slow in group_results and fast in group_results:
            ratio = faster(group_results[slow].steps(), group_results[fast].steps())
            yield _row(f"a guided UNet step, {slow} / {fast}", ratio, at_least=goal)
    ours = measured["torch"].get(MERGED)
    if ours and (outside := [1 - image.engine / image.seconds() for image in ours.images if image.engine]):
        metric = f"share of an image that is no engine call, {MERGED}"
        yield _row(metric, 100 * median(outside), "%", at_most=1)
    for name, each in _each(measured).items():
        yield _row(f"an image of {STEPS} steps, {name}", median(each.seconds()), "s", digits=1)
        yield _row(f"peak memory, {name}", each.peak / 1e9, "GB")


def _each(measured: Mapping[str, Mapping[str, SideResult]]) -> dict[str, SideResult]:
    """Every side once, as in the first group that it is in: int8 with and without merging are of one group."""
    return {name: each for group in reversed(list(measured.values())) for name, each in group.items()}


def _started(starts: Mapping[tuple[str, str], float]) -> Iterator[Row]:
    for state in ("warm", "cold"):
        if {("int8", state), (DIFFUSERS, state)} <= starts.keys():
            share = starts["int8", state] / starts[DIFFUSERS, state]
            metric = f"process start to first image of one step, {state} page cache, int8 / {DIFFUSERS}"
            yield _row(metric, share, at_most=1 / 6)


def _built(work: Path) -> Iterator[Row]:
    """What the bundle cost to build, and the bytes of it that a replica fetches to serve int8."""
    cost = bundles.Cost.of(bundles.PLAIN, work)
    if cost.peak:
        what = "building the bundle in int8, bf16 and f32"
        yield _row(f"peak memory, {what}", cost.peak / 1e9, "GB", at_most=16)
        yield _row(what, cost.seconds, "s", digits=None)
    manifest = load_manifest(open_store(str(work / "store")), bundles.PLAIN, None)
    size = _fetched_bytes(manifest, "openvino-int8")
    yield _row("size of the int8 bundle", size / 1e9, "GB", at_most=1.3)


def _fetched_bytes(manifest: EngineManifest, name: str) -> int:
    """All that a replica fetches to serve this target."""
    target = next(target for target in manifest.targets if target.name == name)
    shared = [manifest.text.tokenizer, manifest.samplers.tables]
    if manifest.cache is not None:
        shared.append(manifest.cache.tensors)
    return sum(manifest.file(path).size for path in {*shared, *target.components.values(), *target.files})


def _sizes() -> Iterator[Row]:
    """The serving environment is a replica's: the extra `runtime` without what its image deletes."""
    replica = environment.megabytes(["darkroom[runtime]"], without=image.unused())
    share = replica / environment.megabytes(_TORCH)
    yield _row("size of the serving environment / of torch + diffusers", share, at_most=0.25)
    yield _row("size of the serving environment", replica, "MB", digits=None)
    yield _row("size of the environment of one machine", environment.megabytes(["darkroom[serve]"]), "MB", digits=None)


def _limited(measured: Mapping[str, Mapping[str, SideResult]], products: dict[str, dict[str, float]]) -> Iterator[Row]:
    """How near a step comes to what matrix products alone allow on these cores."""
    for precision, rate in limits.best(products).items():
        yield _row(f"fastest matrix product, {precision}", rate, "GFLOP/s")
    for group, name in (("f32", "f32"), ("bf16", "bf16"), ("int8", "int8")):
        if name in measured[group]:
            step = median(measured[group][name].steps())
            share = 2 * _GFLOP_A_ROW / step / limits.best(products)[name]
            yield _row(f"a guided UNet step's rate / the fastest product, {name}", share, "share")


def _read_from(side: Side) -> Sequence[Path]:
    """Folders that a side reads when it starts: its weights, what was compiled of them before, and its libraries."""
    libraries = Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    return [Path(str(side.arguments.get("folder") or side.arguments["store"])), Path(".darkroom") / "cache", libraries]


def main(
    narrow: Annotated[int, typer.Option(min=1, max=16, help="Try it on a narrower network; keeps nothing.")] = 1,
) -> None:
    """As `make bench PART=cpu`, or with fewer channels."""
    run(narrow)


if __name__ == "__main__":
    typer.run(main)
