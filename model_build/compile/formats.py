"""Formats: how each engine format is made and run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from model_build.compile import Engine, Format


class EngineFormat(Protocol):
    """What the module of each format offers."""

    def compile_component(self, graph: Path, folder: Path, component: str) -> None:
        """Write files named after the component into `folder`, one of them with the `ENTRY_SUFFIX`."""

    def open_component(self, path: Path, options: Mapping[str, str], threads: int) -> Engine:
        """Load that one."""


def engine_format(name: Format) -> EngineFormat:
    """A format by name; its library is imported here and not before."""
    if name == "openvino":
        from model_build.compile import openvino

        return openvino
    from model_build.compile import onnxruntime

    return onnxruntime
