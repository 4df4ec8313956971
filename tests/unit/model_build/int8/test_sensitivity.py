"""Which layers int8 hurts: measured on a network in which one layer cannot bear it."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset15

from model_build.int8.sensitivity import Layer, bypass, left_out, measure, quantizers, readers_of


def layer(error: float, work: float = 0.01) -> Layer:
    return Layer(("layer",), work, error)


@pytest.fixture
def model() -> openvino.Model:
    """Three matrix products in a row; what the second reads is rounded to 16 values, the others to 256."""
    random = np.random.Generator(np.random.Philox(0))
    value = source = opset15.parameter([-1, 8], np.float32, name="latents")
    for index, levels in enumerate((256, 16, 256)):
        rounded = opset15.fake_quantize(value, np.float32(-8), np.float32(8), np.float32(-8), np.float32(8), levels)
        weights = opset15.constant(random.standard_normal((8, 8), np.float32) / np.float32(3))
        value = opset15.matmul(rounded, weights, False, False)
        value.set_friendly_name(f"product_{index}")
    source.output(0).set_names({"latents"})
    return openvino.Model([value], [source], "net")


def samples() -> list[dict[str, Any]]:
    random = np.random.Generator(np.random.Philox(1))
    return [{"latents": random.standard_normal((4, 8), np.float32)} for _ in range(3)]


def test_each_layer_is_measured_alone(model: openvino.Model) -> None:
    first, second, third = measure(model, samples(), {"product_1": "block.1.proj"}, threads=1)
    assert [first.readers, second.readers, third.readers] == [("product_0",), ("block.1.proj",), ("product_2",)]
    assert second.error > 50 * max(first.error, third.error) > 0
    assert [layer.work for layer in (first, second, third)] == pytest.approx([1 / 3] * 3)


def test_the_harmless_half_is_measured_on_one_sample_only(model: openvino.Model) -> None:
    once, again = (measure(model, given, {}, threads=1) for given in (samples()[:1], samples()))
    changed = [before.error != after.error for before, after in zip(once, again, strict=True)]
    assert changed == [layer.error > min(each.error for each in once) for layer in once]


def test_the_network_measured_is_left_as_it_was(model: openvino.Model) -> None:
    measure(model, samples(), {}, threads=1)
    assert len(quantizers(model)) == 3
    assert [value.any_name for value in model.inputs] == ["latents"]


def test_a_bypassed_layer_gets_what_it_would_without_quantization(model: openvino.Model) -> None:
    bypass(model, [1])
    assert readers_of(model) == [["product_0"], ["product_2"]]
    run = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inside = {"latents": np.eye(8, dtype=np.float32)}
    fine = np.abs(run(inside)[0]).max()
    assert 0 < fine < 8


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        ([layer(1), layer(97), layer(2)], [1]),
        ([layer(50), layer(1), layer(40), layer(9)], [0, 2]),
        ([layer(90, work=0.5), layer(8), layer(2)], [1, 2]),  # too much work to give up, so what else there is
        ([layer(90, work=0.06), layer(80, work=0.06), layer(70, work=0.04)], [0, 2]),
        ([layer(0), layer(0)], []),
        ([], []),
    ],
)
def test_the_worst_are_left_out_within_a_bound_on_work(layers: list[Layer], chosen: list[int]) -> None:
    assert left_out(layers) == chosen
