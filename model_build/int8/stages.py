"""int8: the stages of its targets, calls recorded from the checkpoint's own trajectories, then networks quantized."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from darkroom.bundles.manifest import EngineManifest
from model_build.hardware import threads
from model_build.layout import CALIBRATED, NOTES
from model_build.memory import give_back
from model_build.stages import FinishedStage, RunStage, Stage

RECORDED = "openvino-fp32"  # the target whose calls are


def calibrated(
    run: RunStage, manifest: EngineManifest, files: Mapping[str, Path], prompts: Sequence[str]
) -> FinishedStage:
    """What the checkpoint's own trajectories feed its networks, recorded from the engines in full precision."""
    from model_build.int8.calibration import settings

    usual, types = manifest.defaults, [net.type for net in manifest.control.nets] if manifest.control else []
    images = settings(prompts, usual.width, usual.height, usual.guidance_scale, types)

    def work(folder: Path, advance: Callable[[], None]) -> None:
        from model_build.int8.calibration import collect
        from model_build.int8.calls import save
        from model_build.proof.generation import BundlePipeline

        save(collect(BundlePipeline(manifest, RECORDED, files, threads()), images, advance), folder)

    stage = Stage(
        "calibrate",
        code=("model_build.int8.calibration", "model_build.int8.calls"),
        libraries=("openvino", "numpy"),
        inputs={"version": manifest.version},
        parameters={"images": [asdict(image) for image in images]},
    )
    return run(stage, work, total=len(images))


def engines(run: RunStage, graphs: Mapping[str, FinishedStage], calls: FinishedStage) -> dict[str, FinishedStage]:
    """Every component's engine for OpenVINO."""
    return {component: _quantized(run, component, graph, calls) for component, graph in graphs.items()}


def _quantized(run: RunStage, component: str, graph: FinishedStage, calls: FinishedStage) -> FinishedStage:
    def work(folder: Path, _: Callable[[], None]) -> None:
        from model_build.int8.calls import samples
        from model_build.int8.quantize import quantize

        notes = quantize(
            graph.folder / f"{component}.onnx", folder, component, samples(calls.folder, component), threads()
        )
        (folder / NOTES).write_text(json.dumps(notes, indent=1))
        give_back()

    stage = Stage(
        f"quantize/{component}",
        code=("model_build.int8.quantize", "model_build.int8.calls"),
        libraries=("nncf", "openvino", "numpy"),
        inputs={"graph": graph.digest, **({"calls": calls.digest} if component in CALIBRATED else {})},
    )
    return run(stage, work)


def paired(run: RunStage, graph: FinishedStage, calls: FinishedStage) -> FinishedStage:
    """The UNet's ONNX graph with Q/DQ pairs."""

    def work(folder: Path, _: Callable[[], None]) -> None:
        from model_build.int8.calls import samples
        from model_build.int8.qdq import write_int8

        recorded = samples(calls.folder, "unet")
        notes = write_int8(graph.folder / "unet.onnx", folder / "unet.onnx", recorded, threads())
        (folder / NOTES).write_text(json.dumps(notes, indent=1))
        give_back()

    stage = Stage(
        "pair/unet",
        code=("model_build.int8.qdq", "model_build.int8.calls"),
        libraries=("onnxruntime", "onnxscript", "onnx-ir", "onnx", "numpy"),
        inputs={"graph": graph.digest, "calls": calls.digest},
    )
    return run(stage, work)
