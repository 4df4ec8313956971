"""Calibrate the cache: a published bundle -> how alike prompts must be to share work, as files for the next build."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from safetensors.numpy import save_file

from darkroom.bundles import catalog
from darkroom.bundles.manifest import CacheSpec, EngineManifest
from darkroom.storage import ObjectStore
from model_build import BuildRefused
from model_build.cache.criterion import Criterion
from model_build.cache.engine import StepEngine
from model_build.cache.prompt_map import EPOCHS, code, train
from model_build.cache.trials import DEPTHS, Effort, draws, fit, measure, measured
from model_build.hardware import threads
from model_build.layout import CACHE
from model_build.proof.generation import BundlePipeline, Setting

SPEC = "cache.json"
_GLANCES = (1, 2, 3)  # seeds whose first estimates are averaged into a prompt's mean image


@dataclass(frozen=True)
class CacheCalibration:
    """A finished calibration on disk."""

    folder: Path
    spec: CacheSpec
    sha256: str
    """Of its tensors."""


def fetch(store: ObjectStore, name: str, target: str | None, folder: Path) -> BundlePipeline:
    """A model's served bundle with a target's engines, its files brought to `folder`.

    Raises: BuildRefused for a target it has not, DarkroomError as `catalog.load_manifest` and the store do.
    """
    manifest = catalog.load_manifest(store, name)
    chosen = next((one for one in manifest.targets if target in (None, one.name)), None)
    if chosen is None:
        raise BuildRefused(f"{name} has no target {target}; it has {', '.join(one.name for one in manifest.targets)}.")
    files = {}
    for path in (manifest.text.tokenizer, manifest.samplers.tables, *chosen.files):
        files[path] = folder / path
        files[path].parent.mkdir(parents=True, exist_ok=True)
        files[path].write_bytes(store.get(catalog.bundle_key(name, manifest.version, path)))
    return BundlePipeline(manifest, chosen.name, files, threads())


def calibrate(bundle: BundlePipeline, criterion: Criterion, effort: Effort, advance: Callable[[], None]) -> Any:
    """The prompt map's tensors, and what `cache.json` says; at the bundle's default size, steps and guidance.

    Raises BuildRefused for a UNet that takes more than prompts.
    """
    if bundle.manifest.conditions:
        more = ", ".join(bundle.manifest.conditions)
        raise BuildRefused(f"This UNet takes more than prompts ({more}); only checkpoints without that are calibrated.")
    defaults = bundle.manifest.defaults
    setting = Setting(
        "",
        defaults.width,
        defaults.height,
        defaults.num_inference_steps,
        defaults.guidance_scale,
        defaults.sampler,
    )
    engine = StepEngine(bundle, setting)
    prompts = criterion.prompts(effort.prompts, seed=0)
    images = engine.first_estimates(prompts, _GLANCES, advance)
    embeds = engine.embeds(prompts).reshape(len(prompts), -1)
    weights, explained = train(embeds, images, advance)
    places = code(weights, embeds) * weights["metric"].astype(np.float32)
    random_distance = float(2 * places.var(0).sum())
    steps = sorted({engine.steps_of(depth) for depth in DEPTHS} - {0, setting.steps})
    trials, failing = measure(engine, criterion, weights, steps, effort, advance)
    slope, intercepts = fit(trials, np.array([engine.clarity(step) for step in steps], np.float32), random_distance)
    levels = [
        {
            "timestep": engine.timestep(step),
            "intercept": float(intercept),
            "slope": slope,
            "farthest": float(trials.distance.max()),
        }
        for step, intercept in zip(steps, intercepts, strict=True)
    ]
    spec = {
        "tensors": CACHE,
        "criterion": criterion.name,
        "width": setting.width,
        "height": setting.height,
        "guidance_scale": setting.guidance,
        "failing": failing,
        "random_distance": random_distance,
        "levels": levels,
    }
    record = {
        "checkpoint_sha256": bundle.manifest.checkpoint_sha256,
        "spec": spec,
        "explained": round(explained, 4),
        "measured": measured(trials, steps, setting.steps),
    }
    return weights, record


def work(effort: Effort, manifest: EngineManifest) -> int:
    """How often `calibrate` advances."""
    steps = manifest.defaults.num_inference_steps
    return effort.prompts + EPOCHS + draws(effort, len({round(depth * steps) for depth in DEPTHS} - {0, steps}))


def save(weights: Any, record: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / CACHE)
    (folder / SPEC).write_text(json.dumps(record, indent=1) + "\n")


def load(folder: Path, checkpoint_sha256: str) -> CacheCalibration:
    """Raises BuildRefused where there is none, or one of another checkpoint."""
    try:
        record = json.loads((folder / SPEC).read_text())
        spec, measured_on = CacheSpec.model_validate(record["spec"]), record["checkpoint_sha256"]
        digest = hashlib.sha256((folder / CACHE).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError):
        raise BuildRefused(f"There is no calibration of a cache in {folder}; make one with calibrate-cache.") from None
    if measured_on != checkpoint_sha256:
        raise BuildRefused(f"The calibration in {folder} is another checkpoint's; run calibrate-cache again.")
    return CacheCalibration(folder, spec, digest)


def table(record: dict[str, Any]) -> Table:
    """How far images moved and how many were wrong, by similarity and share of the steps skipped."""
    unaided = record["spec"]["failing"]
    title = f"{record['spec']['criterion']}: {unaided:.2%} of images are wrong without a cache"
    shown = Table("similarity", "steps skipped", "images", "moved", "wrong", box=SIMPLE, title=title)
    for row in record["measured"]:
        nearest, farthest = (1 - distance / record["spec"]["random_distance"] for distance in row["distance"])
        span, wrong = f"{nearest:.2f} to {farthest:.2f}", f"{row['wrong']:.1%}"
        shown.add_row(span, f"{row['share_skipped']:.0%}", str(row["images"]), str(row["moved"]), wrong)
    return shown
