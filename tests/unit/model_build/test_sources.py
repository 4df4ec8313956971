"""What a plan builds from: loaded when it is needed, and forgotten when its memory is."""

from __future__ import annotations

import io
import weakref
from pathlib import Path

import pytest
from rich.console import Console

from model_build import reference
from model_build.checkpoint import Checkpoint
from model_build.plan import Plan
from model_build.progress import Progress
from model_build.sources import Sources
from tests.tiny_checkpoint import write_tiny_checkpoint


class _Unet:
    """As a network is: its parts refer to the whole."""

    def __init__(self) -> None:
        self.part = self


class _Pipeline:
    def __init__(self) -> None:
        self.unet = _Unet()


def test_weights_that_are_released_are_gone_and_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Checkpoint] = []

    def load(checkpoint: Checkpoint) -> _Pipeline:
        loaded.append(checkpoint)
        return _Pipeline()

    monkeypatch.setattr(reference, "load", load)
    plan = Plan(str(write_tiny_checkpoint(tmp_path / "tiny")), "tiny", ["openvino-int8"], tmp_path)
    sources = Sources(plan, Progress(Console(file=io.StringIO())))
    network = weakref.ref(sources.pipeline.unet)
    assert network() is not None
    sources.release()
    assert network() is None
    assert sources.pipeline.unet is not None
    assert len(loaded) == 2
    sources.release()
    sources.release()
