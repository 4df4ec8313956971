"""Build: the ordered stages from a checkpoint to a published bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from darkroom.bundles import signing
from darkroom.bundles.manifest import Defaults, EngineManifest
from darkroom.bundles.row_costs import ROW_COSTS
from darkroom.storage import ObjectStore
from model_build import plan as planning
from model_build.cache.calibration import load as load_cache
from model_build.checkpoints.controlnet import control_spec
from model_build.checkpoints.lora import CHANGED
from model_build.compile import Format
from model_build.compile.device import Device, compiled_for, require
from model_build.compile.formats import engine_format
from model_build.compile.targets import INT8_ENGINES, TargetSpec, target_spec
from model_build.hardware import hardware, libraries, threads
from model_build.int8 import stages as int8
from model_build.layout import COMPONENTS, MAX_STEPS, REPORT, SAMPLERS, TABLES, TOKENIZER
from model_build.own_engines import OwnEngines
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.proof.generation import Setting, control_settings
from model_build.publish import Outputs, manifest, publish
from model_build.sources import Sources
from model_build.stages import FinishedStage, Stage, Work, Workspace

_TORCH = ("torch", "diffusers", "transformers")


class Build:
    """One run of the build stage; `run()` runs it."""

    def __init__(self, plan: Plan, store: ObjectStore, progress: BuildProgress, device: Device | None = None) -> None:
        """`device` is the GPU that is compiled for; None: this machine's, where a target needs one.

        Raises: BuildRefused for a target that is not in the registry, or that this machine cannot compile; KeyRefused,
        OSError for a key that cannot sign.
        """
        if plan.key is not None:
            signing.load_private(plan.key)
        self.plan = plan
        self.store = store
        self.progress = progress
        self.sources = Sources(plan, progress)
        self.workspace = Workspace(plan.work / plan.name)
        specs = [target_spec(name) for name in dict.fromkeys(plan.targets)]
        for spec in specs if device is None else ():
            device = require(spec) if spec.needs_gpu else device
        self.device = device
        self.targets = [compiled_for(device, spec, stripped=plan.stripped) for spec in specs]

    def run(self) -> tuple[EngineManifest, dict[str, Any]]:
        """The published manifest and its report. Raises: BuildRefused, DarkroomError (the object store's)."""
        with self.workspace.held():
            cache = load_cache(self.plan.cache, self.sources.checkpoint.sha256) if self.plan.cache else None
            components = [*COMPONENTS, *(controlnet.component for controlnet in self.sources.controlnets)]
            graphs = {component: self._optimized(component) for component in components}
            own = [target for target in self.targets if target.own]
            for target in own:
                with self.progress.running(f"preflight/{target.name}"):
                    self._maker(target).preflight(target, graphs)
            parts = Outputs({}, self._samplers(), self._tokenizer(), self._preview(graphs["vae_decoder"]), cache)
            in_int8 = any(target.precision == "int8" for target in self.targets)
            recorded = [target_spec(int8.RECORDED)] if in_int8 else []
            formats = dict.fromkeys(target.format for target in (*self.targets, *recorded) if not target.own)
            engines: dict[str, Mapping[str, FinishedStage]] = {
                format_: {component: self._engine(format_, component, graph) for component, graph in graphs.items()}
                for format_ in formats
            }
            calls = None
            if in_int8:
                self.sources.release()  # quantizing needs the memory more
                whole = replace(parts, engines={target.engines: engines[target.engines] for target in recorded})
                built = self._manifest(whole, recorded)
                calls = int8.calibrated(self._run, built, whole.files(), self.plan.calibration)
                if INT8_ENGINES in {target.engines for target in self.targets}:
                    engines[INT8_ENGINES] = int8.engines(self._run, graphs, calls)
            fingerprints = {}
            for target in own:
                made_of = self._maker(target, calls).engines(target, graphs)
                engines[target.engines], fingerprints[target.engines] = made_of
            used = dict.fromkeys(target.engines for target in self.targets)
            outputs = replace(parts, engines={name: engines[name] for name in used}, fingerprints=fingerprints)
            built = self._manifest(outputs, self.targets)
            measured = self._report(built, outputs, self._verified(built, outputs)).folder
            with self.progress.running("publish"):
                built = built if self.plan.key is None else signing.sign(built, self.plan.key)
                publish(self.store, built, outputs, {name: measured / name for name in (REPORT, ROW_COSTS)})
            return built, json.loads((measured / REPORT).read_text())

    @property
    def defaults(self) -> Defaults:
        return planning.defaults(self.plan, self.sources.checkpoint)

    def _run(self, stage: Stage, work: Work, total: int | None = None) -> FinishedStage:
        """A stage's outputs: those of an earlier run with the same key, or what `work(folder, advance)` writes."""
        unchanged = self.workspace.unchanged(stage)
        if unchanged is not None:
            self.progress.skipped(stage.name)
            return unchanged
        with self.progress.running(stage.name, total) as advance:
            return self.workspace.run(stage, lambda folder: work(folder, advance))

    def _optimized(self, component: str) -> FinishedStage:
        """A component's ONNX graph, exported and then optimised."""
        file = f"{component}.onnx"

        def export(folder: Path, _: Callable[[], None]) -> None:
            from model_build.graphs.export import component_graph, export

            graph = component_graph(component, self.sources.checkpoint, self.sources.pipeline, self.sources.networks)
            export(graph, folder / file)

        def optimize(folder: Path, _: Callable[[], None]) -> None:
            from model_build.graphs.optimize import optimize

            optimize(exported.folder / file, folder / file)

        merged = component == "unet" and self.plan.token_merging > 0
        changed = component in CHANGED and bool(self.sources.loras)
        stage = Stage(
            f"export/{component}",
            code=(
                *("model_build.graphs.export", "model_build.checkpoints.loading"),
                *(("model_build.graphs.token_merging",) if merged else ()),
                *(("model_build.checkpoints.lora",) if changed else ()),
            ),
            libraries=(*_TORCH, "onnxscript", "onnx-ir", *(("peft",) if changed else ())),
            inputs={
                "checkpoint": self.sources.checkpoint.sha256,
                **{net.component: net.sha256 for net in self.sources.controlnets if net.component == component},
            },
            parameters={
                **({"token_merging": self.plan.token_merging} if merged else {}),
                **({"controlled": True} if component == "unet" and self.sources.controlnets else {}),
                **({"loras": list(map(str, self.sources.loras))} if changed else {}),
            },
        )
        exported = self._run(stage, export)
        stage = Stage(
            f"optimize/{component}",
            code=("model_build.graphs.optimize",),
            libraries=("onnx-ir", "numpy"),
            inputs={"graph": exported.digest},
        )
        return self._run(stage, optimize)

    def _engine(self, format_: Format, component: str, graph: FinishedStage) -> FinishedStage:
        def work(folder: Path, _: Callable[[], None]) -> None:
            engine_format(format_).compile_component(graph.folder / f"{component}.onnx", folder, component)

        stage = Stage(
            f"compile/{format_}/{component}",
            code=(f"model_build.compile.{format_}",),
            libraries=(format_, "numpy"),
            inputs={"graph": graph.digest},
        )
        return self._run(stage, work)

    def _maker(self, target: TargetSpec, calls: FinishedStage | None = None) -> OwnEngines:
        device = self.device if target.needs_gpu else None
        return OwnEngines(self.plan, self.sources, self._run, self.store, device, calls)

    def _samplers(self) -> FinishedStage:
        config = self.sources.checkpoint.sampler_config

        def work(folder: Path, advance: Callable[[], None]) -> None:
            from safetensors.numpy import save_file

            from model_build.samplers import tables

            save_file(tables(config, max_steps=MAX_STEPS, advance=advance), folder / TABLES)

        stage = Stage(
            "samplers",
            code=("model_build.samplers",),
            libraries=("diffusers", "torch", "numpy", "safetensors"),
            parameters={"config": config},
        )
        return self._run(stage, work, total=len(SAMPLERS) * MAX_STEPS)

    def _tokenizer(self) -> FinishedStage:
        def work(folder: Path, _: Callable[[], None]) -> None:
            from model_build.checkpoints.tokenizer import write

            ids = write(self.sources.checkpoint, self.sources.pipeline.tokenizer, folder / TOKENIZER)
            (folder / "ids.json").write_text(json.dumps(ids))

        stage = Stage(
            "tokenizer",
            code=("model_build.checkpoints.tokenizer", "model_build.checkpoints.loading"),
            libraries=("transformers", "tokenizers"),
            inputs={"checkpoint": self.sources.checkpoint.sha256},
        )
        return self._run(stage, work)

    def _preview(self, decoder: FinishedStage) -> FinishedStage:
        channels, downscale = self.sources.checkpoint.latent_channels, self.sources.checkpoint.downscale
        scaling = self.sources.checkpoint.scaling_factor

        def work(folder: Path, _: Callable[[], None]) -> None:
            from model_build.preview import fit

            decode = engine_format("onnxruntime").open_component(decoder.folder / "vae_decoder.onnx", {}, 1)
            (folder / "preview.json").write_text(json.dumps(fit(decode, channels, downscale, scaling)))

        stage = Stage(
            "preview",
            code=("model_build.preview", "model_build.compile.onnxruntime"),
            libraries=("numpy", "onnxruntime"),
            inputs={"decoder": decoder.digest},
            parameters={"channels": channels, "downscale": downscale, "scaling_factor": scaling},
        )
        return self._run(stage, work)

    def _manifest(self, outputs: Outputs, targets: list[TargetSpec]) -> EngineManifest:
        plan, checkpoint = self.plan, self.sources.checkpoint
        return manifest(
            *(plan.name, checkpoint, outputs, targets, self.defaults, planning.limits(plan, checkpoint)),
            token_merging=plan.token_merging,
            loras=list(map(str, self.sources.loras)),
            control=control_spec(self.sources.controlnets, checkpoint),
        )

    def _verified(self, manifest: EngineManifest, outputs: Outputs) -> FinishedStage:
        steps = self.plan.verify_steps or self.defaults.num_inference_steps
        usual = self._setting(self.defaults.sampler, steps)
        controlled = control_settings(usual, [net.type for net in self.sources.controlnets])
        settings = [*(self._setting(sampler, steps) for sampler in SAMPLERS), *controlled]
        floors = {target.name: target.psnr_floor for target in self.targets}

        def work(folder: Path, advance: Callable[[], None]) -> None:
            from model_build.proof.reference import Reference
            from model_build.proof.verify import verify

            reference = Reference(self.sources.checkpoint, self.sources.pipeline, self.sources.networks)
            agreements = verify(reference, manifest, outputs.files(), floors, settings, threads(), advance)
            (folder / "verify.json").write_text(json.dumps([asdict(each) for each in agreements], indent=1))

        stage = Stage(
            "verify",
            code=(
                *("model_build.proof.verify", "model_build.checkpoints.loading"),
                *("model_build.checkpoints.lora", "model_build.graphs.token_merging"),
            ),
            libraries=tuple(libraries()),
            inputs={"version": manifest.version},
            parameters={
                "hardware": hardware(),
                "settings": [asdict(setting) for setting in settings],
                "floors": floors,
            },
        )
        return self._run(stage, work, total=len(settings) * (1 + len(self.targets)))

    def _report(self, manifest: EngineManifest, outputs: Outputs, verified: FinishedStage) -> FinishedStage:
        plan = self.plan
        setting = self._setting(self.defaults.sampler, plan.verify_steps or self.defaults.num_inference_steps)

        def work(folder: Path, advance: Callable[[], None]) -> None:
            from model_build.proof.report import write_report

            agreements = json.loads((verified.folder / "verify.json").read_text())
            subject = self.sources.checkpoint, manifest, outputs.files(), agreements, outputs.notes()
            write_report(folder, *subject, setting, repeats=plan.repeats, advance=advance)

        stage = Stage(
            "report",
            code=("model_build.proof.report",),
            libraries=tuple(libraries()),
            inputs={"version": manifest.version, "verified": verified.digest},
            parameters={"hardware": hardware(), "setting": asdict(setting), "repeats": plan.repeats},
        )
        return self._run(stage, work, total=len(self.targets) * (len(COMPONENTS) + 2) if plan.repeats else None)

    def _setting(self, sampler: str, steps: int) -> Setting:
        defaults = self.defaults
        return Setting(self.plan.prompt, defaults.width, defaults.height, steps, defaults.guidance_scale, sampler)
