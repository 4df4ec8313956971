"""What a plan builds from: loaded when it is needed, and forgotten when its memory is."""

from __future__ import annotations

import io
import weakref
from pathlib import Path

from rich.console import Console

from model_build.graphs.export import component_graph, export
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.sources import Sources
from tests.tiny_checkpoint import write_tiny_checkpoint


def test_weights_that_are_released_are_gone_even_once_exported_and_loaded_again(tmp_path: Path) -> None:
    plan = Plan(str(write_tiny_checkpoint(tmp_path / "tiny")), "tiny", ["openvino-int8"], tmp_path)
    sources = Sources(plan, BuildProgress(Console(file=io.StringIO())))
    network, weight = weakref.ref(sources.pipeline.unet), next(sources.pipeline.unet.parameters())
    export(component_graph("unet", sources.checkpoint, sources.pipeline, sources.networks), tmp_path / "unet.onnx")
    assert weight.numel()
    sources.release()
    assert network() is None
    assert not weight.numel()
    assert all(weight.numel() for weight in sources.pipeline.unet.parameters())
    sources.release()
    sources.release()
