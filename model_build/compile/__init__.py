"""Compile: optimised ONNX -> engines. A target is a name in the registry; targets of one format share their files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from numpy.typing import NDArray

Format = Literal["openvino", "onnxruntime"]  # each is also the name of the library that opens it
ENTRY_SUFFIX: dict[Format, str] = {"openvino": ".xml", "onnxruntime": ".onnx"}
CONTEXT_SUFFIX = "_ctx.onnx"  # of the model that names a compiled engine
Engine = Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]  # inputs by name to outputs in the graph's order
