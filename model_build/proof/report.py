"""Report: what was compiled, how much faster it is than diffusers, at what error; JSON and a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from darkroom.bundles.manifest import EngineManifest
from darkroom.bundles.row_costs import ROW_COSTS, RowCosts
from model_build.checkpoints.checkpoint import Checkpoint
from model_build.hardware import hardware, software, threads
from model_build.layout import COMPONENTS, REPORT
from model_build.proof.generation import BundlePipeline, Setting, token_ids
from model_build.proof.measure import IMAGE, WORKS, Measurement, ReferenceSide, row_costs, take_turns
from model_build.proof.trial import Arrays, trial_inputs

_LABELS = {
    "text_encoder": "text encoder",
    "unet": "UNet, one step",
    "vae_decoder": "VAE decoder",
    "vae_encoder": "VAE encoder",
}
Readings = dict[str, tuple[Measurement, Measurement]]


def write_report(
    folder: Path,
    checkpoint: Checkpoint,
    manifest: EngineManifest,
    files: Mapping[str, Path],
    agreements: Sequence[Mapping[str, Any]],
    notes: Mapping[str, Mapping[str, Any]],
    setting: Setting,
    *,
    repeats: int,
    advance: Callable[[], None],
) -> None:
    """Measure every target `repeats` times beside diffusers (0: not at all); write what was measured into `folder`."""
    readings, costs = {}, {}
    ids = token_ids(files[manifest.text.tokenizer], manifest.text, "", setting.prompt)
    inputs = {name: trial_inputs(name, manifest, ids, setting.height, setting.width) for name in COMPONENTS}
    works: dict[str, Arrays | Setting] = {**inputs, IMAGE: setting}
    baseline = ReferenceSide(checkpoint, threads())
    for target in manifest.targets if repeats else ():
        side = partial(BundlePipeline, manifest, target.name, files, threads())
        readings[target.name] = take_turns(baseline, side, works, repeats=repeats, advance=advance)
        costs[target.name] = row_costs(side, inputs["unet"], repeats=repeats)
        advance()
    measured = RowCosts(processor=hardware()["processor"], threads=threads(), targets=costs).sealed()
    (folder / ROW_COSTS).write_text(measured.model_dump_json(indent=1))
    report = assemble(manifest, setting, agreements, readings, notes, repeats=repeats)
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")


def assemble(
    manifest: EngineManifest,
    setting: Setting,
    agreements: Sequence[Mapping[str, Any]],
    readings: Mapping[str, Readings],
    notes: Mapping[str, Mapping[str, Any]],
    *,
    repeats: int,
) -> dict[str, Any]:
    """The report as JSON: times in milliseconds, memory in bytes, errors as PSNR in dB.

    `notes` says how a target's components were quantized, layers left out included, or what of them was fused.
    `agreements` is what `verify` found; `readings` has what was measured of each target, and is empty where nothing was
    timed.
    """
    calls = {"text_encoder": 1, "unet": setting.steps, "vae_decoder": 1, "vae_encoder": None, IMAGE: 1}
    return {
        "model": manifest.model,
        "version": manifest.version,
        "checkpoint_sha256": manifest.checkpoint_sha256,
        "hardware": hardware(),
        "software": software(),
        "image": {
            "prompt": setting.prompt,
            "width": setting.width,
            "height": setting.height,
            "num_inference_steps": setting.steps,
            "guidance_scale": setting.guidance,
            "sampler": setting.sampler,
            "seed": setting.seed,
        },
        "baseline": "diffusers, torch float32",
        "token_merging": manifest.token_merging,
        "threads": threads(),
        "repeats": repeats,
        "calls_per_image": calls,
        "targets": [
            {
                "name": agreement["target"],
                "psnr_floor": agreement["floor"],
                "psnr": {
                    **agreement["components"],
                    **{f"image/{k}": v for k, v in agreement["samplers"].items()},
                    **{f"control/{k}": v for k, v in agreement["controls"].items()},
                },
                "times": {
                    work: _times(*readings[agreement["target"]][work], calls[work])
                    for work in WORKS
                    if agreement["target"] in readings
                },
                **_noted(notes.get(agreement["target"], {})),
            }
            for agreement in agreements
        ],
    }


def _noted(components: Mapping[str, Any]) -> dict[str, Any]:
    """How its components were made: what was fused, or how they were quantized."""
    if not components:
        return {}
    return {"fusion" if all("fused" in notes for notes in components.values()) else "quantization": components}


def _times(baseline: Measurement, optimised: Measurement, calls: int | None) -> dict[str, Any]:
    """`images_per_second` counts what this work alone would let through, and is None for what no image needs."""
    return {
        "baseline_ms": round(baseline.seconds * 1000, 2),
        "optimised_ms": round(optimised.seconds * 1000, 2),
        "speed_up": round(baseline.seconds / optimised.seconds, 2),
        "images_per_second": round(1 / (optimised.seconds * calls), 3) if calls else None,
        "baseline_peak_bytes": baseline.peak_bytes,
        "optimised_peak_bytes": optimised.peak_bytes,
    }


def tables(report: Mapping[str, Any]) -> list[Table]:
    """The same for people, a table for each target."""
    image, machine = report["image"], report["hardware"]
    caption = (
        f"{image['width']}x{image['height']} px, {image['num_inference_steps']} steps, "
        f"guidance {image['guidance_scale']}; {machine['processor']}, threads: {report['threads']}; "
        f"baseline: {report['baseline']}"
    )
    if report["token_merging"]:
        caption += f", which merges no tokens; the bundle merges {report['token_merging']:.0%} of them"
    if report["repeats"]:
        caption += f"; median of {report['repeats']}, taken in turns"
    return [
        _table(report["model"], target, image["sampler"], caption + _left_out(target)) for target in report["targets"]
    ]


def _left_out(target: Mapping[str, Any]) -> str:
    """How many layers an int8 target leaves in floating point; report.json names them."""
    components = target.get("quantization", {}).values()
    count = sum(len(component.get("left_out", ())) for component in components)
    return f"; {count} layers left out of int8, see {REPORT}" if components else ""


def _table(model: str, target: Mapping[str, Any], sampler: str, caption: str) -> Table:
    title = f"{model} on {target['name']}"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE)
    table.add_column("", no_wrap=True)
    for heading in ("baseline", "optimised", "speed-up", "images/s", "peak MiB", "PSNR"):
        table.add_column(heading, justify="right", no_wrap=True)
    for component in (name for name in target["psnr"] if "/" not in name):
        times = _cells(target["times"].get(component))
        label = _LABELS.get(component) or f"ControlNet {component.removeprefix('controlnet_')}"
        table.add_row(label, *times, f"{target['psnr'][component]:.1f} dB")
    table.add_row(
        f"image, {sampler}", *_cells(target["times"].get(IMAGE)), f"{target['psnr'][f'image/{sampler}']:.1f} dB"
    )
    for work, error in target["psnr"].items():
        if "/" in work and work != f"image/{sampler}":
            table.add_row(work.replace("/", ", "), *_cells(None), f"{error:.1f} dB")
    return table


def _cells(times: Mapping[str, Any] | None) -> list[str]:
    if times is None:
        return [""] * 5
    rate, peaks = times["images_per_second"], (times["baseline_peak_bytes"], times["optimised_peak_bytes"])
    return [
        f"{times['baseline_ms']:,.1f} ms",
        f"{times['optimised_ms']:,.1f} ms",
        f"{times['speed_up']:.2f} times",
        "" if rate is None else f"{rate:,.2f}",
        " to ".join(f"{peak / 2**20:,.0f}" for peak in peaks) if all(peaks) else "",
    ]
