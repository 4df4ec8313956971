"""Publish: the stages' outputs -> a manifest, then artefacts first and the manifest last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom.bundles import catalog
from darkroom.bundles.fingerprint import Fingerprint
from darkroom.bundles.manifest import (
    BundleFile,
    ControlSpec,
    Defaults,
    EngineManifest,
    LatentSpec,
    Limits,
    Requirements,
    SamplerSpec,
    Target,
    TextSpec,
)
from darkroom.contracts import GenerationRequest
from darkroom.errors import DarkroomError
from darkroom.resolving import resolve
from darkroom.storage import ObjectStore
from model_build import BuildRefused
from model_build.cache.calibration import CacheCalibration
from model_build.checkpoints.checkpoint import Checkpoint
from model_build.compile import CONTEXT_SUFFIX, ENTRY_SUFFIX
from model_build.compile.targets import TargetSpec
from model_build.hardware import installed, libraries
from model_build.layout import CACHE, MAX_STEPS, NOTES, SAMPLERS, TABLES, TOKENIZER
from model_build.stages import FinishedStage


@dataclass(frozen=True)
class Outputs:
    """The finished stages that a bundle is put together from; `engines`: set of engine files -> component -> stage.

    `fingerprints` has those of the sets that belong to one target.
    """

    engines: Mapping[str, Mapping[str, FinishedStage]]
    samplers: FinishedStage
    tokenizer: FinishedStage
    preview: FinishedStage
    cache: CacheCalibration | None = None
    fingerprints: Mapping[str, Sequence[Fingerprint]] = field(default_factory=dict)

    def artefacts(self) -> dict[str, tuple[Path, str]]:
        """Every file of the bundle: its path there -> the local file and its SHA-256."""
        files = {
            TOKENIZER: (self.tokenizer.folder / TOKENIZER, self.tokenizer.files[TOKENIZER]),
            TABLES: (self.samplers.folder / TABLES, self.samplers.files[TABLES]),
        }
        if self.cache is not None:
            files[CACHE] = self.cache.folder / CACHE, self.cache.sha256
        for engines, components in self.engines.items():
            for done in components.values():
                files |= {f"{engines}/{name}": (done.folder / name, done.files[name]) for name in _bundled(done)}
        return files

    def files(self) -> dict[str, Path]:
        return {path: local for path, (local, _) in self.artefacts().items()}

    def notes(self) -> dict[str, dict[str, Any]]:
        """What stages noted for the report: set of engine files -> component -> notes."""
        notes = {
            engines: {
                component: json.loads((done.folder / NOTES).read_text())
                for component, done in parts.items()
                if NOTES in done.files
            }
            for engines, parts in self.engines.items()
        }
        return {engines: components for engines, components in notes.items() if components}


def manifest(
    name: str,
    checkpoint: Checkpoint,
    outputs: Outputs,
    targets: Sequence[TargetSpec],
    defaults: Defaults,
    limits: Limits,
    *,
    token_merging: float,
    loras: Sequence[str],
    control: ControlSpec | None,
) -> EngineManifest:
    """The manifest of a bundle, under the version that its content gives it; targets in order of preference.

    Raises: BuildRefused where the defaults are not what the limits allow.
    """
    preview = json.loads((outputs.preview.folder / "preview.json").read_text())
    token_ids = json.loads((outputs.tokenizer.folder / "ids.json").read_text())
    unversioned = EngineManifest(
        model=name,
        version="0" * 16,
        pipeline=checkpoint.pipeline,
        prediction_type=checkpoint.prediction_type,
        checkpoint_sha256=checkpoint.sha256,
        files=[
            BundleFile(path=path, size=local.stat().st_size, sha256=digest)
            for path, (local, digest) in sorted(outputs.artefacts().items())
        ],
        targets=[_target(target, outputs) for target in targets],
        text=TextSpec(
            tokenizer=TOKENIZER,
            max_length=checkpoint.max_length,
            embedding_dim=checkpoint.embedding_dim,
            pooled_dim=checkpoint.pooled_dim,
            zero_negative=checkpoint.zero_negative,
            **token_ids,
        ),
        latents=LatentSpec(
            channels=checkpoint.latent_channels,
            downscale=checkpoint.downscale,
            scaling_factor=checkpoint.scaling_factor,
            preview=preview,
        ),
        samplers=SamplerSpec(tables=TABLES, names=list(SAMPLERS), max_steps=MAX_STEPS, entries=True),
        defaults=defaults,
        limits=limits,
        built_with=libraries(),
        token_merging=token_merging,
        loras=list(loras),
        control=control,
        cache=outputs.cache.spec if outputs.cache else None,
        conditions=checkpoint.conditions,
    )
    try:
        resolve(GenerationRequest(prompt=""), unversioned)
    except DarkroomError as refused:
        raise BuildRefused(f"The defaults cannot be made: {refused.detail}") from None
    return unversioned.model_copy(update={"version": unversioned.content_version()})


def publish(store: ObjectStore, manifest: EngineManifest, outputs: Outputs, measured: Mapping[str, Path]) -> None:
    """Put the bundle and what was measured of it into the store and serve it; publishing it again changes nothing."""
    catalog.publish(store, manifest, {**outputs.files(), **measured})


def _target(spec: TargetSpec, outputs: Outputs) -> Target:
    components, fingerprints = outputs.engines[spec.engines], outputs.fingerprints.get(spec.engines, ())
    paths = {component: [f"{spec.engines}/{name}" for name in _bundled(done)] for component, done in components.items()}
    requires = Requirements(library=spec.format, version=installed(spec.format), cpu_features=list(spec.cpu_features))
    if fingerprints:
        needs = fingerprints[0].model_dump(include={"cuda", "tensorrt", "gpu_architecture"})
        requires = requires.model_copy(update=needs)
    return Target(
        name=spec.name,
        format=spec.format,
        precision=spec.precision,
        components={component: _entry(files, ENTRY_SUFFIX[spec.format]) for component, files in paths.items()},
        files=sorted(path for files in paths.values() for path in files),
        requires=requires,
        options=dict(spec.options),
        profile=fingerprints[0].profile if fingerprints else None,
        fingerprints=list(fingerprints),
    )


def _entry(paths: Sequence[str], suffix: str) -> str:
    """The file that is opened: where a graph lies beside its engine, the model that names the engine."""
    entries = [path for path in paths if path.endswith(suffix)]
    return next((path for path in entries if path.endswith(CONTEXT_SUFFIX)), entries[0])


def _bundled(done: FinishedStage) -> list[str]:
    """The files of a stage that go into the bundle."""
    return [name for name in done.files if name != NOTES]
