"""Fusion for ONNX Runtime's CUDA provider: normalisation, GELU, attention and convolution as single kernels.

ONNX Runtime's own Stable Diffusion optimiser recognises GroupNorm, SkipGroupNorm, SkipLayerNormalization and turns
convolutions to channels-last. Its patterns for attention and the gated GELU are those of an older exporter, so these
two are recognised here first.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.onnx_model_clip import ClipOnnxModel
from onnxruntime.transformers.onnx_model_unet import UnetOnnxModel
from onnxruntime.transformers.onnx_model_vae import VaeOnnxModel

from model_build.graphs.halving import halve, load_widened

DOMAIN = "com.microsoft"
_KINDS = {
    "text_encoder": ("clip", ClipOnnxModel),
    "vae_decoder": ("vae", VaeOnnxModel),
    "vae_encoder": ("vae", VaeOnnxModel),
}
_WIDEST_HEAD = 256  # what the attention kernels take
_GATED = (1280, 2560, 5120)  # the widths that the BiasSplitGelu kernel is made for
_HEADS_APART = [0, 2, 1, 3]


def fuse(source: Path, target: Path, component: str, *, half: bool) -> dict[str, int]:
    """Read float32 ONNX from `source`, fuse, write to `target`, weights in `{target}.data`; how many of each kernel.

    With `half`, weights and arithmetic are float16 afterwards (see `graphs.halving`). Fusion comes first: the
    optimiser misreads float16 weights.
    """
    model = load_widened(source)
    fuse_attention(model)
    fuse_gated_gelu(model)
    model.opset_imports[DOMAIN] = 1
    model = _optimized(model, component)
    if half:
        halve(model)
    onnx_ir.save(model, target, external_data=f"{target.name}.data")
    return dict(sorted(Counter(node.op_type for node in model.graph if node.domain == DOMAIN).items()))


def _optimized(model: onnx_ir.Model, component: str) -> onnx_ir.Model:
    """What ONNX Runtime's optimiser for this kind of network makes of a model, its nodes in an order that can run."""
    kind, optimizer = _KINDS.get(component, ("unet", UnetOnnxModel))
    options = FusionOptions(kind)
    options.enable_attention = False
    fused = optimizer(onnx_ir.to_proto(model), num_heads=0, hidden_size=0)
    with _silent():
        fused.optimize(options)
    fused.topological_sort()
    optimized: onnx_ir.Model = onnx_ir.from_proto(fused.model)
    for node in [node for node in optimized.graph if node.op_type == "Cast"]:
        # It casts what it knows no type of to the type of a convolution's weights, which all of it has already.
        readers, source = {use.node.op_type for use in node.outputs[0].uses()}, node.inputs[0]
        if readers == {"NhwcConv"} and source is not None:
            node.outputs[0].replace_all_uses_with(source)
            optimized.graph.remove(node, safe=True)
    return optimized


@contextmanager
def _silent() -> Iterator[None]:
    """The optimiser draws a progress bar and logs what it does not find."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


def fuse_attention(model: onnx_ir.Model) -> int:
    """softmax(q kT) v over heads, from Reshape to Reshape, becomes MultiHeadAttention; the number of them.

    One with a mask (the text encoder's) is left as it is.
    """
    count = 0
    for softmax in [node for node in model.graph if node.op_type == "Softmax"]:
        scores, mixed = _producer(softmax.inputs[0], "MatMul"), _reader(softmax.outputs[0], "MatMul")
        if scores is None or mixed is None or mixed.inputs[0] is not softmax.outputs[0]:
            continue
        query, key = (_scaled(value) for value in scores.inputs)
        merged = _reader(mixed.outputs[0], "Transpose")
        whole = None if merged is None else _reader(merged.outputs[0], "Reshape")
        if query is None or key is None or whole is None:
            continue
        parts = [_split_heads(value) for value in (query[0], key[0], mixed.inputs[1])]
        heads = {part[1:] for part in parts if part is not None}
        if None in parts or len(heads) != 1 or max(width for _, width in heads) > _WIDEST_HEAD:
            continue
        ((number, _),) = heads
        attributes = {"num_heads": number, "scale": query[1] * key[1]}
        _replace(model, whole, "MultiHeadAttention", [part[0] for part in parts if part], attributes)
        count += 1
    return count


def fuse_gated_gelu(model: onnx_ir.Model) -> int:
    """(x + b) split in two, one half times the other's GELU, becomes BiasSplitGelu; the number of them."""
    count = 0
    for gelu in [node for node in model.graph if node.op_type == "Gelu"]:
        split, product = _producer(gelu.inputs[0], "Split"), _reader(gelu.outputs[0], "Mul")
        biased = None if split is None else _producer(split.inputs[0], "Add")
        if split is None or product is None or biased is None or gelu.inputs[0] is not split.outputs[1]:
            continue
        bias = next((value for value in biased.inputs if value is not None and _constant(value) is not None), None)
        width = 0 if bias is None or bias.const_value is None else int(bias.const_value.size) // 2
        if {*product.inputs} != {split.outputs[0], gelu.outputs[0]} or width not in _GATED:
            continue
        projected = next(value for value in biased.inputs if value is not bias)
        _replace(model, product, "BiasSplitGelu", [projected, bias], {})
        count += 1
    return count


def _replace(
    model: onnx_ir.Model,
    last: onnx_ir.Node,
    kind: str,
    inputs: Sequence[onnx_ir.Value | None],
    attributes: dict[str, int | float],
) -> None:
    """Put one kernel in the place of a pattern's last node; what nobody reads any more is removed."""
    node = onnx_ir.node(kind, inputs, attributes, domain=DOMAIN, name=f"{last.outputs[0].name}.fused")
    name = last.outputs[0].name
    model.graph.insert_before(last, node)
    last.outputs[0].replace_all_uses_with(node.outputs[0])
    unread = [last]
    while unread:
        dead = unread.pop()
        if dead.graph is None or any(value.uses() or value.is_graph_output() for value in dead.outputs):
            continue
        before = [value.producer() for value in dead.inputs if value is not None]
        model.graph.remove(dead, safe=True)
        unread += [producer for producer in before if producer is not None]
    node.outputs[0].name = name


def _producer(value: onnx_ir.Value | None, kind: str) -> onnx_ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == kind else None


def _reader(value: onnx_ir.Value, kind: str) -> onnx_ir.Node | None:
    """The node that alone reads a value, if it is of this kind."""
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _scaled(value: onnx_ir.Value | None) -> tuple[onnx_ir.Value, float] | None:
    """(what is scaled, by how much)."""
    product = _producer(value, "Mul")
    scale = None if product is None or product.inputs[1] is None else _constant(product.inputs[1])
    if product is None or product.inputs[0] is None or scale is None or scale.size != 1:
        return None
    return product.inputs[0], float(scale.ravel()[0])


def _split_heads(value: onnx_ir.Value | None) -> tuple[onnx_ir.Value, int, int] | None:
    """(what was split [rows, length, heads x width], heads, width), from before the transposes of queries and keys."""
    while value is not None and (node := value.producer()) is not None and node.op_type in ("Reshape", "Transpose"):
        split = _producer(node.inputs[0], "Reshape")
        if node.op_type == "Transpose" and split and list(node.attributes["perm"].as_ints()) == _HEADS_APART:
            whole, sizes = split.inputs[0], _sizes(split.inputs[1])
            if whole is not None and sizes is not None:
                return whole, *sizes
        value = node.inputs[0]
    return None


def _sizes(shape: onnx_ir.Value | None) -> tuple[int, int] | None:
    """Heads and their width, the last two numbers of a shape [rows, length, heads, width]."""
    if shape is None:
        return None
    whole, parts = _constant(shape), _producer(shape, "Concat")
    if whole is None and parts is not None:
        known = [_constant(size) for size in parts.inputs if size is not None]
        whole = np.array([-1 if size is None else size.item() for size in known])
    return None if whole is None or whole.size != 4 or min(whole[2:]) < 1 else (int(whole[2]), int(whole[3]))


def _constant(value: onnx_ir.Value) -> NDArray[Any] | None:
    return None if value.const_value is None else value.const_value.numpy()
