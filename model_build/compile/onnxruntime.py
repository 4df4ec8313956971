"""ONNX Runtime reads the optimised graph itself, so compiling is a copy, once the library has accepted it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from model_build.compile import Engine


def compile_component(graph: Path, folder: Path, component: str) -> None:
    """Copy `{component}.onnx` (opened) and `{component}.onnx.data` (its weights, named in it) into `folder`."""
    open_component(graph, {}, 1)
    for name in (f"{component}.onnx", f"{component}.onnx.data"):
        shutil.copyfile(graph.with_name(name), folder / name)


def open_component(path: Path, options: Mapping[str, str], threads: int) -> Engine:
    """Load a graph on the CPU provider; `options` are session config entries."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    for key, value in options.items():
        settings.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda inputs: list(session.run(None, inputs))
