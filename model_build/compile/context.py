"""ONNX -> EPContext: a small ONNX model that names an engine file, as the provider that compiled it wrote both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnxruntime

from darkroom import gpu
from darkroom.bundles.fingerprint import Profile, Span
from darkroom.gpu import TENSORRT
from model_build import BuildRefused
from model_build.compile import CONTEXT_SUFFIX
from model_build.compile.onnxruntime import copy_component, open_session

ShapeRange = tuple[list[int], list[int], list[int]]
_STRIPPED, _INT8 = "trt_weight_stripped_engine_enable", "trt_int8_enable"


@dataclass(frozen=True)
class Context:
    """How a component is compiled: `prefix` begins the engine file's name and is different for every engine.

    One engine's cache is taken for another's of the same graph and prefix (microsoft/onnxruntime #32254). `profile` has
    the shapes of each input as (least, usual, most); `timings` is a folder that TensorRT keeps tactics' timings in.
    """

    provider: str
    prefix: str
    options: Mapping[str, str]
    profile: Mapping[str, ShapeRange] = field(default_factory=dict)
    timings: Path | None = None


def instructions(context: Context, path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Provider options and session entries that make a provider write the EPContext model to `path`.

    TensorRT's provider has options of its own; all others follow ONNX Runtime's session entries. The engine is a file
    beside the model, never inside it: above 2 GB it would not fit.
    """
    options = {
        name: value for name, value in context.options.items() if name not in ("provider", "trt_cuda_graph_enable")
    }
    if context.provider != TENSORRT:
        entries = {"ep.context_enable": "1", "ep.context_file_path": str(path), "ep.context_embed_mode": "0"}
        return options, entries
    shapes = {
        f"trt_profile_{which}_shapes": ",".join(
            f"{name}:{'x'.join(map(str, spans[index]))}" for name, spans in context.profile.items()
        )
        for index, which in enumerate(("min", "opt", "max"))
    }
    timings = (
        {}
        if context.timings is None
        else {
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(context.timings),
            "trt_force_timing_cache": "0",
        }
    )
    dump = {
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_file_path": str(path),
        "trt_ep_context_embed_mode": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_prefix": context.prefix,
    }
    # What TensorRT does not take must not end up on the CPU in silence.
    return {"device_id": "0", **options, **dump, **shapes, **timings}, {"session.disable_cpu_ep_fallback": "1"}


def compile_context(graph: Path, folder: Path, component: str, context: Context) -> None:
    """Write `{component}_ctx.onnx` and its engine file into `folder`; with stripped weights the graph as well.

    Raises: BuildRefused where the provider does not start or does not take the whole network.
    """
    if context.provider in gpu.PROVIDERS:
        gpu.preload(context.provider, gpu.search_folders())
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    if context.options.get(_INT8) == "1":  # TensorRT is to see the pairs as they were written; ONNX Runtime moves them
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path = folder / f"{component}{CONTEXT_SUFFIX}"
    options, entries = instructions(context, path)
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    try:
        open_session(graph, settings, context.provider, options)
    except Exception as refused:
        if isinstance(refused, BuildRefused):
            raise
        reason = str(refused).strip().splitlines()[0]
        raise BuildRefused(f"{context.provider} cannot compile the {component}: {reason}") from None
    _check(path, component, context.provider)
    if context.options.get(_STRIPPED) == "1":
        copy_component(graph, folder, component)


def shapes(graph: Path, profile: Profile, downscale: int) -> dict[str, ShapeRange]:
    """The least, usual and most of every input's shape, by the names that export gives its dynamic axes.

    The autoencoder and the text encoder are called with one row (two prompts at most), whatever the UNet's rows.

    Raises: BuildRefused for an axis that the profile has no bounds for.
    """
    model = onnx.load(graph, load_external_data=False)
    names = [entry.name for entry in model.graph.input]
    rows = profile.rows if "timestep" in names else (1, 2, 2) if "input_ids" in names else (1, 1, 1)
    spans = {"rows": rows, "height": profile.height, "width": profile.width}
    spans |= {f"image_{axis}": _times(spans[axis], downscale) for axis in ("height", "width")}
    ranges = {}
    for entry in model.graph.input:
        axes = [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        each = [_span(axis, spans, entry.name) if isinstance(axis, str) else (axis,) * 3 for axis in axes]
        ranges[entry.name] = ([span[0] for span in each], [span[1] for span in each], [span[2] for span in each])
    return ranges


def _span(axis: str, spans: Mapping[str, Span], name: str) -> Span:
    """An axis of the profile, or its part as ControlNets' residuals have it (`height_4`: a quarter, rounded up)."""
    whole, _, shrink = axis.rpartition("_")
    if axis in spans:
        return spans[axis]
    if whole not in spans or not shrink.isdecimal():
        raise BuildRefused(f"The shape profile says nothing of the axis {axis} of {name}.")
    least, usual, most = (-(-size // int(shrink)) for size in spans[whole])
    return least, usual, most


def _times(span: Span, factor: int) -> Span:
    least, usual, most = span
    return least * factor, usual * factor, most * factor


def _check(path: Path, component: str, provider: str) -> None:
    """A context model of one node, whose engine file lies beside it."""
    if not path.is_file():
        raise BuildRefused(f"{provider} wrote no engine of the {component}.")
    model = onnx.load(path)
    kinds = [node.op_type for node in model.graph.node]
    if kinds != ["EPContext"]:
        raise BuildRefused(f"{provider} takes only a part of the {component}: {len(kinds)} pieces are left.")
    for name in engine_files(model):
        if Path(name).name != name or not path.with_name(name).is_file():
            raise BuildRefused(f"{provider} wrote no engine file of the {component} beside its model.")


def engine_files(model: onnx.ModelProto) -> Iterator[str]:
    """The engine files that a context model names."""
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if "embed_mode" in attributes and attributes["embed_mode"].i == 0:
            yield attributes["ep_cache_context"].s.decode()
