"""ONNX Runtime reads the optimised graph itself, so compiling is a copy, once the library has accepted it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from darkroom import gpu
from model_build import BuildRefused
from model_build.compile import Engine

_CPU = "CPUExecutionProvider"


def compile_component(graph: Path, folder: Path, component: str) -> None:
    """Copy `{component}.onnx` (opened) and `{component}.onnx.data` (its weights, named in it) into `folder`."""
    open_component(graph, {}, 1)
    copy_component(graph, folder, component)


def copy_component(graph: Path, folder: Path, component: str) -> None:
    for name in (f"{component}.onnx", f"{component}.onnx.data"):
        shutil.copyfile(graph.with_name(name), folder / name)


def open_component(path: Path, options: Mapping[str, str], threads: int) -> Engine:
    """Load a graph; `options` are the provider's name (default: the CPU's) under `provider`, and its own options.

    Runs are not captured as CUDA graphs: their buffers change from call to call.

    Raises: BuildRefused where the provider does not start.
    """
    provider = options.get("provider", _CPU)
    own_options = {name: value for name, value in options.items() if name != "provider"}
    if provider in gpu.PROVIDERS:
        gpu.preload(provider, gpu.search_folders())
        own_options = gpu.provider_options(provider, options, path)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    session = open_session(path, settings, provider, own_options)
    return lambda inputs: list(session.run(None, inputs))


def open_session(
    path: Path, settings: onnxruntime.SessionOptions, provider: str, options: Mapping[str, str]
) -> onnxruntime.InferenceSession:
    """A session on this provider and no other. Raises: BuildRefused."""
    if provider not in onnxruntime.get_available_providers():
        raise BuildRefused(f"This ONNX Runtime has no {provider}; `python -m model_build doctor` says what is missing.")
    session = onnxruntime.InferenceSession(path, settings, providers=[(provider, dict(options))])
    if session.get_providers()[0] != provider:
        raise BuildRefused(f"{provider} does not start; `python -m model_build doctor` says what is missing.")
    return session
