"""What this processor can do at most: matrix products of Stable Diffusion's shapes, timed alone, by precision."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import openvino
from openvino import opset15
from tqdm import trange  # type: ignore[import-untyped]

# Tokens of two rows at 512 x 512, channels in and out: the feed-forward layers of each level, where most products are.
SHAPES = ((8192, 320, 2560), (2048, 640, 5120), (512, 1280, 10240), (2048, 2048, 2048))
_PRECISIONS = {"f32": "f32", "bf16": "bf16", "int8": "bf16"}  # -> INFERENCE_PRECISION_HINT; int8 by quantizers
_ROUNDS = 60  # half a minute: where others use the machine too, the best of a few moments may be far from its own
_LEVELS = 256


def peaks(threads: int) -> dict[str, dict[str, float]]:
    """For each precision the 10^9 operations (a multiplication and an addition are two) a second at each shape: the
    best of rounds in which all have their turn.
    """
    products = [_Product(precision, shape, threads) for precision in _PRECISIONS for shape in SHAPES]
    for _ in trange(_ROUNDS, desc="  products", unit="round"):
        for product in products:
            product.run()
    rates: dict[str, dict[str, float]] = {precision: {} for precision in _PRECISIONS}
    for product in products:
        rates[product.precision][" x ".join(map(str, product.shape))] = round(product.rate / 1e9, 1)
    return rates


def best(peaks_by_shape: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The highest rate of each precision."""
    return {precision: max(rates.values()) for precision, rates in peaks_by_shape.items()}


class _Product:
    """One product of matrices; `rate` is the highest so far, in operations a second."""

    def __init__(self, precision: str, shape: tuple[int, int, int], threads: int) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERF_COUNT": True,
        }
        self.precision, self.shape = precision, shape
        self.rate = 0.0
        self._given = np.random.default_rng(0).standard_normal(shape[:2], np.float32)
        self._request = openvino.Core().compile_model(_product(precision, shape), "CPU", options).create_infer_request()

    def run(self) -> None:
        """By the product's own time in the profile: quantizing its input and moving data around it are left out."""
        self._request.infer([self._given])
        product = next(node for node in self._request.profiling_info if node.node_type == "FullyConnected")
        self.rate = max(self.rate, 2 * math.prod(self.shape) / product.real_time.total_seconds())


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
