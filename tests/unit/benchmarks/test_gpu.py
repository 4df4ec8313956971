"""The rows of a GPU, from made-up readings; and no measuring where there is none."""

from __future__ import annotations

import pytest

from benchmarks import gpu
from benchmarks.gpu import COMPILED, EAGER, PLAIN, compared, saturated
from benchmarks.sides import Found, Image
from model_build.device import Lack


def _found(name: str, seconds: float) -> Found:
    marks = [seconds * part / 20 for part in range(1, 21)]
    return Found(name, 1.0, 2.0, 0, [Image([*marks, seconds], [*marks, seconds])] * 2)


def test_our_preferred_target_is_held_against_torch_compile() -> None:
    seconds = {EAGER: 1.0, COMPILED: 0.6, "tensorrt-fp16-sm90": 0.3, "onnx-cuda-fp16": 0.4, PLAIN: 0.5}
    found = {name: _found(name, each) for name, each in seconds.items()}
    made = {row.metric: row for row in compared(found, ["tensorrt-fp16-sm90", "onnx-cuda-fp16", PLAIN], 20)}
    first = made[f"one image, {COMPILED} / tensorrt-fp16-sm90"]
    assert (first.measured, first.goal, first.met) == (2.0, ">= 1.6", True)
    assert made[f"one image, {COMPILED} / onnx-cuda-fp16"].goal is None
    assert made[f"one image, {PLAIN} / onnx-cuda-fp16"].measured == 1.25, "what fusion is worth"
    assert made["one image, onnx-cuda-fp16"].measured == 400


def test_the_share_of_the_matrix_peak() -> None:
    rate, share, peak = saturated({1: 2.0, 8: 10.0}, peak=1000.0, steps=20)
    assert (rate.metric, rate.measured) == ("images a second, 8 at once", 10.0)
    assert (share.measured, share.met) == (0.346, False), "34.6 TFLOP an image"
    assert peak.measured == 1000.0


def test_without_a_gpu_it_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "lacks", lambda _: [Lack("there is no NVIDIA driver", "")])
    with pytest.raises(SystemExit, match=r"^The part gpu needs an NVIDIA GPU, and here there is no NVIDIA driver; "):
        gpu.run()
