"""Quantize: optimised ONNX -> OpenVINO IR in int8, calibrated, with the layers that suffer most left out."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import openvino

from model_build.compile.openvino import write
from model_build.int8.sensitivity import Feed, Layer, bypass, left_out, measure, readers_of
from model_build.proof.psnr import psnr

_MOVES = ("Cast", "Transpose", "Reshape")
_SMOOTHING = 0.5  # SmoothQuant's migration strength; Xiao et al. 2023, section 4
_SAMPLES_OF_SENSITIVITY = 4
# Latents a side; which layers suffer does not depend on it, what it costs to find out does: a decoder works on pixels.
_CROPS = {"unet": 32, "vae_decoder": 16}
_DECODER_FLOOR = 35.0  # dB between its images in int8 and in float; below it multiplies in floating point


def quantize(graph: Path, folder: Path, component: str, samples: Sequence[Feed], threads: int) -> dict[str, Any]:
    """Write `{component}.xml` and `{component}.bin` into `folder`; what was done, for the report (JSON).

    Without samples only the weights become integers, and everything is multiplied in floating point; so it is with a
    decoder whose images int8 would spoil.
    """
    if not samples:
        return _weights_only(graph, folder, component)
    with _quiet():
        import nncf

        model = openvino.convert_model(graph)
        quantized = nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(convolution=_SMOOTHING, matmul=_SMOOTHING)
            ),
        )
        del model  # `quantized` is a copy, of gigabytes
    bypass(quantized, [index for index, readers in enumerate(readers_of(quantized)) if not readers])
    tried = trials(samples, component)
    layers = measure(quantized, tried, checkpoint_names(graph), threads)
    chosen = left_out(layers)
    bypass(quantized, chosen)
    if component == "vae_decoder":
        agreement = _agreement(openvino.convert_model(graph), quantized, tried, threads)
        if agreement < _DECODER_FLOOR:
            return {**_weights_only(graph, folder, component), "psnr_in_int8": agreement}
    write(quantized, folder, component)
    return report(layers, chosen)


def trials(samples: Sequence[Feed], component: str) -> list[Feed]:
    """What sensitivity is measured on: a few calls from all over the trajectories, a corner of each."""
    step = max(1, len(samples) // _SAMPLES_OF_SENSITIVITY)
    return [_cropped(sample, _CROPS[component]) for sample in samples[step // 2 :: step][:_SAMPLES_OF_SENSITIVITY]]


def _weights_only(graph: Path, folder: Path, component: str) -> dict[str, Any]:
    with _quiet():
        import nncf

        model = openvino.convert_model(graph)
        nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    write(model, folder, component)
    return {"weights": "int8", "activations": "float"}


def _agreement(model: openvino.Model, quantized: openvino.Model, samples: Sequence[Feed], threads: int) -> float:
    """PSNR in dB between what both make of the samples: images in [-1, 1], clipped to it."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    whole, rounded = (openvino.Core().compile_model(each, "CPU", options) for each in (model, quantized))
    pairs = [[np.clip(run(sample)[0], -1, 1) for sample in samples] for run in (whole, rounded)]
    wanted, actual = (np.concatenate(images) for images in pairs)
    return psnr(wanted, actual, peak=2.0)


def _cropped(sample: Feed, most: int) -> Feed:
    """A corner of the latents, `most` a side, and as much of all else that is laid out in height and width."""
    side = max(sample["latents"].shape[2:])
    if side <= most:
        return sample
    return {
        name: value[:, :, : -(-value.shape[2] * most // side), : -(-value.shape[3] * most // side)]
        if value.ndim == len(sample["latents"].shape)
        else value
        for name, value in sample.items()
    }


def report(layers: Sequence[Layer], chosen: Sequence[int]) -> dict[str, Any]:
    """What was done to a network in int8, for the report: the layers left out, the worst first."""
    total = sum(layer.error for layer in layers) or 1.0
    return {
        "weights": "int8",
        "activations": "int8",
        "quantized": len(layers) - len(chosen),
        "left_out": [
            {
                "layers": list(layers[index].readers),
                "error_share": round(layers[index].error / total, 4),
                "work_share": round(layers[index].work, 4),
            }
            for index in sorted(chosen, key=lambda index: -layers[index].error)
        ],
    }


def checkpoint_names(graph: Path) -> dict[str, str]:
    """The names of layers, in ONNX and in the IR -> the checkpoint's, found by the weights that a node reads."""
    names = {}
    for node in onnx_ir.load(graph).graph:
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        # where the exporter has transposed the weights they have lost their name, but the bias has it
        biases = [value for use in node.outputs[0].uses() if use.node.op_type == "Add" for value in use.node.inputs]
        for value in (node.inputs[1], *biases):
            name = _parameter(value)
            if name is not None and node.name:  # the converter splits the bias off and gives what multiplies a suffix
                names[node.name] = names[f"{node.name}/WithoutBiases"] = name
                break
    return names


def _parameter(value: onnx_ir.Value | None) -> str | None:
    """The layer in the checkpoint whose weight or bias a value is."""
    while value is not None and (producer := value.producer()) is not None and producer.op_type in _MOVES:
        value = producer.inputs[0]
    if value is None or not value.is_initializer() or not value.name:
        return None
    name = value.name.removesuffix(".half")
    return name.rpartition(".")[0] if name.endswith((".weight", ".bias")) else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF shows its own progress, and reports its use over the network unless it believes to be in a CI."""
    level = logging.getLogger("nncf").level
    os.environ.setdefault("NNCF_CI", "1")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        logging.getLogger("nncf").setLevel(level)
