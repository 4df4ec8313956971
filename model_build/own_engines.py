"""The engines of a target that shares them with no other: in its precision, fused, compiled, and fingerprinted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from darkroom.bundles.fingerprint import Fingerprint, Profile
from darkroom.gpu import TENSORRT, captures
from darkroom.storage import ObjectStore
from model_build import plan as planning
from model_build.checkpoints.checkpoint import Checkpoint
from model_build.compile.device import Device
from model_build.compile.targets import TargetSpec
from model_build.hardware import hardware, installed
from model_build.int8.stages import paired
from model_build.layout import NOTES
from model_build.plan import Plan
from model_build.sources import Sources
from model_build.stages import FinishedStage, RunStage, Stage


@dataclass(frozen=True)
class OwnEngines:
    """What such engines are made from and with.

    `device` is None where the provider is the CPU's; `calls` is what int8 is calibrated on, None where nothing is.
    """

    plan: Plan
    sources: Sources
    run: RunStage
    store: ObjectStore
    device: Device | None
    calls: FinishedStage | None = None

    def preflight(self, spec: TargetSpec, graphs: Mapping[str, FinishedStage]) -> None:
        """Raises BuildRefused where the engines of all components together cannot fit the GPU (or this machine)."""
        from model_build.compile.context import shapes
        from model_build.compile.preflight import need, refuse_what_does_not_fit

        most = self._largest(spec)
        needs = {}
        for component, graph in graphs.items():
            path = graph.folder / f"{component}.onnx"
            largest = {name: spans[-1] for name, spans in shapes(path, most, self._scale).items()}
            needs[component] = need(path, largest, 4 if spec.half and not self._half_of(spec, component) else 2)
        call = f"{most.rows[-1]} rows at {most.width[-1] * self._scale}x{most.height[-1] * self._scale}"
        name, memory = ("this machine", hardware()["memory_bytes"])
        if self.device is not None:
            name, memory = self.device.gpu.name, self.device.gpu.memory_bytes
        replayed = self.plan.graphs if spec.provider == TENSORRT and captures(spec.options) else 0
        refuse_what_does_not_fit(spec.name, needs, memory, name, call, replayed)

    def _largest(self, spec: TargetSpec) -> Profile:
        """The profile as far as memory is taken: TensorRT's for all of it, CUDA's for calls that occur."""
        if spec.provider == TENSORRT:
            return self._profile
        least, usual, most = self._profile.width
        max_pixels = planning.limits(self.plan, self._checkpoint).max_pixels
        widest = min(most, max(least, max_pixels // (self._profile.height[-1] * self._scale**2)))
        return self._profile.model_copy(update={"width": (least, min(usual, widest), widest)})

    @property
    def _checkpoint(self) -> Checkpoint:
        return self.sources.checkpoint

    @property
    def _profile(self) -> Profile:
        return planning.profile(self.plan, self._checkpoint)

    @property
    def _scale(self) -> int:
        return self._checkpoint.downscale

    def _half_of(self, spec: TargetSpec, component: str) -> bool:
        return spec.half and not (component.startswith("vae_") and self._checkpoint.vae_overflows)

    def engines(
        self, spec: TargetSpec, graphs: Mapping[str, FinishedStage]
    ) -> tuple[dict[str, FinishedStage], list[Fingerprint]]:
        """Every component's engine, and their fingerprints. Raises: BuildRefused."""
        compiled = {component: self._engine(spec, component, graph) for component, graph in graphs.items()}
        return {component: done for component, (done, _) in compiled.items()}, [mark for _, mark in compiled.values()]

    def _engine(self, spec: TargetSpec, component: str, graph: FinishedStage) -> tuple[FinishedStage, Fingerprint]:
        """A component's engine files, in a folder called by their fingerprint's digest. `graph` is the optimised one.

        Raises: BuildRefused.
        """
        half = self._half_of(spec, component)
        source = graph
        if spec.fused:
            source = self._fused(component, graph, half=half)
        elif spec.precision == "int8" and component == "unet":
            assert self.calls is not None  # noqa: S101  (the build records calls for every target in int8)
            source = paired(self.run, graph, self.calls)
        elif half:
            source = self._half(component, graph)
        fingerprint = self._fingerprint(spec, component, source)
        return self._compiled(spec, component, source, fingerprint), fingerprint

    def _half(self, component: str, graph: FinishedStage) -> FinishedStage:
        file = f"{component}.onnx"

        def work(folder: Path, _: Callable[[], None]) -> None:
            from model_build.graphs.halving import write_half

            write_half(graph.folder / file, folder / file)

        stage = Stage(
            f"halve/{component}",
            code=("model_build.graphs.halving",),
            libraries=("onnx-ir", "numpy"),
            inputs={"graph": graph.digest},
        )
        return self.run(stage, work)

    def _fused(self, component: str, graph: FinishedStage, *, half: bool) -> FinishedStage:
        def work(folder: Path, _: Callable[[], None]) -> None:
            from model_build.graphs.fusion import fuse

            counts = fuse(graph.folder / f"{component}.onnx", folder / f"{component}.onnx", component, half=half)
            (folder / NOTES).write_text(json.dumps({"fused": counts}, indent=1))

        stage = Stage(
            f"fuse/{component}",
            code=("model_build.graphs.fusion",),
            libraries=("onnx", "onnxruntime", "onnx-ir"),
            inputs={"graph": graph.digest},
            parameters={"half": half},
        )
        return self.run(stage, work)

    def _fingerprint(self, spec: TargetSpec, component: str, graph: FinishedStage) -> Fingerprint:
        device, tensorrt = self.device, spec.provider == TENSORRT
        return Fingerprint(
            checkpoint_sha256=self._checkpoint.sha256,
            component=component,
            graph_sha256=graph.digest,
            precision=spec.precision,
            profile=self._profile if tensorrt else None,
            controlnets=[f"{controlnet.type}:{controlnet.sha256}" for controlnet in self.sources.controlnets],
            loras=list(map(str, self.sources.loras)),
            library="onnxruntime",
            version=installed("onnxruntime"),
            cuda=device.cuda if device else None,
            tensorrt=device.tensorrt if device and tensorrt else None,
            gpu_architecture=device.gpu.architecture if device and tensorrt else None,
        )

    def _compiled(
        self, spec: TargetSpec, component: str, graph: FinishedStage, fingerprint: Fingerprint
    ) -> FinishedStage:
        def work(folder: Path, _: Callable[[], None]) -> None:
            inner = folder / fingerprint.digest()
            inner.mkdir()
            source = graph.folder / f"{component}.onnx"
            if spec.provider == TENSORRT:
                self._compile_context(spec, component, source, inner, fingerprint)
            else:
                from model_build.compile.onnxruntime import copy_component, open_component

                open_component(source, spec.options, 1)
                copy_component(source, inner, component)
            if NOTES in graph.files:
                (folder / NOTES).write_text((graph.folder / NOTES).read_text())

        stage = Stage(
            f"compile/{spec.name}/{component}",
            code=("model_build.compile.context", "model_build.compile.onnxruntime"),
            libraries=("onnxruntime", "onnx"),
            inputs={"graph": graph.digest},
            parameters={"fingerprint": fingerprint.model_dump(mode="json"), "options": spec.options},
        )
        return self.run(stage, work)

    def _compile_context(
        self, spec: TargetSpec, component: str, graph: Path, folder: Path, fingerprint: Fingerprint
    ) -> None:
        from model_build.compile import timings
        from model_build.compile.context import Context, compile_context, shapes

        with tempfile.TemporaryDirectory() as kept:
            timings.bring(self.store, fingerprint.tensorrt or "", Path(kept))
            context = Context(
                provider=spec.provider,
                prefix=f"{component}-{fingerprint.digest()}",
                options=spec.options,
                profile=shapes(graph, self._profile, self._scale),
                timings=Path(kept),
            )
            compile_context(graph, folder, component, context)
            timings.keep(self.store, fingerprint.tensorrt or "", Path(kept))
