"""What this processor can do at most: matrix products of Stable Diffusion's shapes, timed alone, by precision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import openvino
from openvino import opset15

# Tokens of two rows at 512 x 512, channels in and out: the feed-forward layers of each level, where most products are.
SHAPES = ((8192, 320, 2560), (2048, 640, 5120), (512, 1280, 10240), (2048, 2048, 2048))
_PRECISIONS = {"f32": "f32", "bf16": "bf16", "int8": "bf16"}  # -> INFERENCE_PRECISION_HINT; int8 by quantizers
_REPEATS = 9
_LEVELS = 256


def peaks(threads: int) -> dict[str, dict[str, float]]:
    """For each precision the 10^9 operations (a multiplication and an addition are two) a second at each shape."""
    return {
        precision: {_name(shape): _rate(precision, shape, threads) for shape in SHAPES} for precision in _PRECISIONS
    }


def best(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The highest rate of each precision."""
    return {precision: max(rates.values()) for precision, rates in found.items()}


def _rate(precision: str, shape: tuple[int, int, int], threads: int) -> float:
    """By the product's own time in the profile: quantizing its input and moving data around it are left out."""
    options = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    rows, inner, columns = shape
    compiled = openvino.Core().compile_model(_product(precision, shape), "CPU", options)
    request = compiled.create_infer_request()
    given = np.random.default_rng(0).standard_normal((rows, inner), np.float32)
    seconds = []
    for _ in range(_REPEATS):
        request.infer([given])
        products = [node for node in request.profiling_info if node.node_type == "FullyConnected"]
        seconds.append(products[0].real_time.total_seconds())
    return round(2 * rows * inner * columns / 1e9 / float(min(seconds)), 1)


def _product(precision: str, shape: tuple[int, int, int]) -> openvino.Model:
    rows, inner, columns = shape
    given = opset15.parameter([rows, inner], np.float32)
    drawn = np.random.default_rng(1)
    if precision != "int8":
        weights = opset15.constant(drawn.standard_normal((inner, columns), np.float32))
        return openvino.Model([opset15.matmul(given, weights, False, False)], [given])
    quantized = opset15.fake_quantize(given, *(np.float32(v) for v in (-4, 4, -4, 4)), _LEVELS)
    whole = opset15.convert(opset15.constant(drawn.integers(-127, 128, (inner, columns), np.int8)), "f32")
    weights = opset15.multiply(whole, opset15.constant(np.full((1, columns), 0.01, np.float32)))
    return openvino.Model([opset15.matmul(quantized, weights, False, False)], [given])


def _name(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
