"""Build: the ordered stages from a checkpoint to a published bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from darkroom import signing
from darkroom.manifest import Defaults, EngineManifest
from darkroom.row_costs import ROW_COSTS, RowCosts
from darkroom.storage import ObjectStore
from model_build import plan as planning
from model_build.cache.calibration import load as load_cache
from model_build.checkpoints.controlnet import control_spec
from model_build.checkpoints.lora import CHANGED
from model_build.compile import INT8_ENGINES, Format, TargetSpec, engine_format, target_spec
from model_build.compile.device import Device, compiled_for, require
from model_build.hardware import hardware, libraries, threads
from model_build.int8 import stages as int8
from model_build.layout import COMPONENTS, MAX_STEPS, REPORT, SAMPLERS, TABLES, TOKENIZER
from model_build.own_engines import OwnEngines
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.proof.generation import Setting, control_settings, token_ids
from model_build.publish import Outputs, manifest, publish
from model_build.sources import Sources
from model_build.stages import Finished, Stage, Work, Workspace

_VERIFIES = (
    "proof.verify",
    "proof.psnr",
    "proof.generation",
    "proof.control",
    "proof.reference",
    "samplers",
    "proof.trial",
)
_TORCH = ("torch", "diffusers", "transformers")
_EXPORT = tuple(
    f"model_build.{name}"
    for name in ("graphs.export", "proof.reference", "checkpoints.checkpoint", "checkpoints.controlnet")
)


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
            engines: dict[str, Mapping[str, Finished]] = {
                format_: {component: self._engine(format_, component, graph) for component, graph in graphs.items()}
                for format_ in formats
            }
            calls = None
            if in_int8:
                self.sources.release()  # quantizing needs the memory more
                whole = replace(parts, engines={target.engines: engines[target.engines] for target in recorded})
                made = self._manifest(whole, recorded)
                calls = int8.calibrated(self._run, made, whole.files(), self.plan.calibration)
                if INT8_ENGINES in {target.engines for target in self.targets}:
                    engines[INT8_ENGINES] = int8.engines(self._run, graphs, calls)
            fingerprints = {}
            for target in own:
                made_of = self._maker(target, calls).engines(target, graphs)
                engines[target.engines], fingerprints[target.engines] = made_of
            used = dict.fromkeys(target.engines for target in self.targets)
            outputs = replace(parts, engines={name: engines[name] for name in used}, fingerprints=fingerprints)
            made = self._manifest(outputs, self.targets)
            measured = self._report(made, outputs, self._verified(made, outputs)).folder
            with self.progress.running("publish"):
                made = made if self.plan.key is None else signing.sign(made, self.plan.key)
                publish(self.store, made, outputs, {name: measured / name for name in (REPORT, ROW_COSTS)})
            return made, json.loads((measured / REPORT).read_text())

    @property
    def defaults(self) -> Defaults:
        return planning.defaults(self.plan, self.sources.checkpoint)

    def _run(self, stage: Stage, work: Work, total: int | None = None) -> Finished:
        """A stage's outputs: those of an earlier run with the same key, or what `work(folder, advance)` writes."""
        found = self.workspace.unchanged(stage)
        if found is not None:
            self.progress.skipped(stage.name)
            return found
        with self.progress.running(stage.name, total) as advance:
            return self.workspace.run(stage, lambda folder: work(folder, advance))

    def _optimized(self, component: str) -> Finished:
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
                *_EXPORT,
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
            code=("model_build.graphs.optimize", "model_build.graphs.weights"),
            libraries=("onnx-ir", "numpy"),
            inputs={"graph": exported.digest},
        )
        return self._run(stage, optimize)

    def _engine(self, format_: Format, component: str, graph: Finished) -> Finished:
        def work(folder: Path, _: Callable[[], None]) -> None:
            engine_format(format_).compile(graph.folder / f"{component}.onnx", folder, component)

        stage = Stage(
            f"compile/{format_}/{component}",
            code=(f"model_build.compile.{format_}", "model_build.graphs.weights"),
            libraries=(format_, "numpy"),
            inputs={"graph": graph.digest},
        )
        return self._run(stage, work)

    def _maker(self, target: TargetSpec, calls: Finished | None = None) -> OwnEngines:
        device = self.device if target.needs_gpu else None
        return OwnEngines(self.plan, self.sources, self._run, self.store, device, calls)

    def _samplers(self) -> Finished:
        config = self.sources.checkpoint.sampler_config

        def work(folder: Path, advance: Callable[[], None]) -> None:
            from safetensors.numpy import save_file

            from model_build.samplers import tables

            save_file(tables(config, max_steps=MAX_STEPS, advance=advance), folder / TABLES)

        stage = Stage(
            "samplers",
            code=("model_build.samplers", "model_build.layout"),
            libraries=("diffusers", "torch", "numpy", "safetensors"),
            parameters={"config": config},
        )
        return self._run(stage, work, total=len(SAMPLERS) * MAX_STEPS)

    def _tokenizer(self) -> Finished:
        def work(folder: Path, _: Callable[[], None]) -> None:
            from model_build.checkpoints.tokenizer import write

            ids = write(self.sources.checkpoint, self.sources.pipeline.tokenizer, folder / TOKENIZER)
            (folder / "ids.json").write_text(json.dumps(ids))

        stage = Stage(
            "tokenizer",
            code=("model_build.checkpoints.tokenizer",),
            libraries=("transformers", "tokenizers"),
            inputs={"checkpoint": self.sources.checkpoint.sha256},
        )
        return self._run(stage, work)

    def _preview(self, decoder: Finished) -> Finished:
        channels, downscale = self.sources.checkpoint.latent_channels, self.sources.checkpoint.downscale
        scaling = self.sources.checkpoint.scaling_factor

        def work(folder: Path, _: Callable[[], None]) -> None:
            from model_build.preview import fit

            decode = engine_format("onnxruntime").open(decoder.folder / "vae_decoder.onnx", {}, 1)
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

    def _verified(self, made: EngineManifest, outputs: Outputs) -> Finished:
        steps = self.plan.verify_steps or self.defaults.num_inference_steps
        usual = self._setting(self.defaults.sampler, steps)
        controlled = control_settings(usual, [net.type for net in self.sources.controlnets])
        settings = [*(self._setting(sampler, steps) for sampler in SAMPLERS), *controlled]

        def work(folder: Path, advance: Callable[[], None]) -> None:
            from model_build.proof.reference import Reference
            from model_build.proof.verify import verify

            reference = Reference(self.sources.checkpoint, self.sources.pipeline, self.sources.networks)
            found = verify(reference, made, outputs.files(), self.targets, settings, threads(), advance)
            (folder / "verify.json").write_text(json.dumps([asdict(agreement) for agreement in found], indent=1))

        stage = Stage(
            "verify",
            code=tuple(f"model_build.{name}" for name in _VERIFIES),
            libraries=tuple(libraries()),
            inputs={"version": made.version},
            parameters={
                "hardware": hardware(),
                "settings": [asdict(setting) for setting in settings],
                "floors": {target.name: target.psnr_floor for target in self.targets},
            },
        )
        return self._run(stage, work, total=len(settings) * (1 + len(self.targets)))

    def _report(self, made: EngineManifest, outputs: Outputs, verified: Finished) -> Finished:
        plan = self.plan
        setting = self._setting(self.defaults.sampler, plan.verify_steps or self.defaults.num_inference_steps)

        def work(folder: Path, advance: Callable[[], None]) -> None:
            from model_build.proof.measure import BundleSide, ReferenceSide, compare, row_costs
            from model_build.proof.report import assemble
            from model_build.proof.trial import trial_inputs

            files, readings, costs = outputs.files(), {}, {}
            ids = token_ids(files[TOKENIZER], made.text, "", setting.prompt)
            for target in self.targets if plan.repeats else ():
                side = BundleSide(made, target.name, files, threads())
                baseline = ReferenceSide(self.sources.checkpoint, threads())
                readings[target.name] = compare(baseline, side, setting, ids, repeats=plan.repeats, advance=advance)
                rows = trial_inputs("unet", made, ids, setting.height, setting.width)
                costs[target.name] = row_costs(side, rows, repeats=plan.repeats)
                advance()
            measured = RowCosts(processor=hardware()["processor"], threads=threads(), targets=costs)
            (folder / ROW_COSTS).write_text(measured.model_dump_json(indent=1))
            agreements = json.loads((verified.folder / "verify.json").read_text())
            report = assemble(made, setting, agreements, readings, outputs.notes(), repeats=plan.repeats)
            (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")

        stage = Stage(
            "report",
            code=tuple(
                f"model_build.proof.{name}" for name in ("report", "measure", "generation", "reference", "trial")
            ),
            libraries=tuple(libraries()),
            inputs={"version": made.version, "verified": verified.digest},
            parameters={"hardware": hardware(), "setting": asdict(setting), "repeats": plan.repeats},
        )
        return self._run(stage, work, total=len(self.targets) * (len(COMPONENTS) + 2) if plan.repeats else None)

    def _setting(self, sampler: str, steps: int) -> Setting:
        defaults = self.defaults
        return Setting(self.plan.prompt, defaults.width, defaults.height, steps, defaults.guidance_scale, sampler)
