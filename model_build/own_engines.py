"""The engines of a target that shares them with no other: in its precision, fused, compiled, and fingerprinted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkroom.fingerprint import Fingerprint, Profile
from darkroom.gpu import TENSORRT
from darkroom.storage import ObjectStore
from model_build.checkpoint import Checkpoint
from model_build.compile import TargetSpec
from model_build.device import Device
from model_build.hardware import installed
from model_build.layout import NOTES
from model_build.stages import Finished, Stage

Work = Callable[[Path, Callable[[], None]], None]


@dataclass(frozen=True)
class OwnEngines:
    """What such engines are made from and with; `run` runs a stage or finds it unchanged.

    `device` is None where the provider is the CPU's.
    """

    checkpoint: Checkpoint
    run: Callable[[Stage, Work], Finished]
    store: ObjectStore
    profile: Profile
    device: Device | None
    controlnets: Sequence[str] = ()
    loras: Sequence[str] = ()

    def engine(self, spec: TargetSpec, component: str, graph: Finished) -> tuple[Finished, Fingerprint]:
        """A component's engine files, in a folder called by their fingerprint's digest. `graph` is the optimised one.

        Raises: BuildRefused.
        """
        half = spec.half and not (component.startswith("vae_") and self.checkpoint.vae_overflows)
        source = graph
        if spec.fused:
            source = self._fused(component, graph, half=half)
        elif half:
            source = self._half(component, graph)
        made = self._fingerprint(spec, component, source)
        return self._compiled(spec, component, source, made), made

    def _half(self, component: str, graph: Finished) -> Finished:
        file = f"{component}.onnx"

        def work(folder: Path, _: Callable[[], None]) -> None:
            from model_build.halving import write_half

            write_half(graph.folder / file, folder / file)

        stage = Stage(
            f"halve/{component}",
            code=("model_build.halving",),
            libraries=("onnx-ir", "numpy"),
            inputs={"graph": graph.digest},
        )
        return self.run(stage, work)

    def _fused(self, component: str, graph: Finished, *, half: bool) -> Finished:
        def work(folder: Path, _: Callable[[], None]) -> None:
            from model_build.fusion import fuse

            found = fuse(graph.folder / f"{component}.onnx", folder / f"{component}.onnx", component, half=half)
            (folder / NOTES).write_text(json.dumps({"fused": found}, indent=1))

        stage = Stage(
            f"fuse/{component}",
            code=("model_build.fusion", "model_build.halving"),
            libraries=("onnx", "onnxruntime", "onnx-ir"),
            inputs={"graph": graph.digest},
            parameters={"half": half},
        )
        return self.run(stage, work)

    def _fingerprint(self, spec: TargetSpec, component: str, graph: Finished) -> Fingerprint:
        device, tensorrt = self.device, spec.provider == TENSORRT
        return Fingerprint(
            checkpoint_sha256=self.checkpoint.sha256,
            component=component,
            graph_sha256=graph.digest,
            precision=spec.precision,
            profile=self.profile if tensorrt else None,
            controlnets=list(self.controlnets),
            loras=list(self.loras),
            library="onnxruntime",
            version=installed("onnxruntime"),
            cuda=device.cuda if device else None,
            tensorrt=device.tensorrt if device and tensorrt else None,
            gpu_architecture=device.gpu.architecture if device and tensorrt else None,
        )

    def _compiled(self, spec: TargetSpec, component: str, graph: Finished, made: Fingerprint) -> Finished:
        def work(folder: Path, _: Callable[[], None]) -> None:
            inner = folder / made.digest()
            inner.mkdir()
            source = graph.folder / f"{component}.onnx"
            if spec.provider == TENSORRT:
                self._compile_context(spec, component, source, inner, made)
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
            parameters={"fingerprint": made.model_dump(mode="json"), "options": spec.options},
        )
        return self.run(stage, work)

    def _compile_context(self, spec: TargetSpec, component: str, graph: Path, folder: Path, made: Fingerprint) -> None:
        from model_build.compile import timings
        from model_build.compile.context import Context, compile_context, shapes

        with tempfile.TemporaryDirectory() as kept:
            timings.bring(self.store, made.tensorrt or "", Path(kept))
            context = Context(
                provider=spec.provider,
                prefix=f"{component}-{made.digest()}",
                options=spec.options,
                profile=shapes(graph, self.profile, self.checkpoint.downscale),
                timings=Path(kept),
            )
            compile_context(graph, folder, component, context)
            timings.keep(self.store, made.tensorrt or "", Path(kept))
