"""The rows of a GPU, from made-up readings; and no measuring where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.engines import gpu, gpu_memory
from benchmarks.engines.gpu import COMPILED, EAGER, PLAIN, SD15, SDXL, chosen, compared, saturated
from benchmarks.peers.sides import Image, SideResult
from model_build.compile.device import Lack


def _result(name: str, seconds: float) -> SideResult:
    image = Image([seconds / 32] * 32, [seconds / 32] * 32)  # 31 steps and the rest, in fractions that add up exactly
    return SideResult(name, 1.0, 2.0, 1 << 30, [image] * 2, 3 << 30)


def test_our_preferred_target_is_held_against_torch_compile() -> None:
    seconds = {EAGER: 1.0, COMPILED: 0.6, "tensorrt-fp16-sm90": 0.3, "onnx-cuda-fp16": 0.4, PLAIN: 0.5}
    results = {name: _result(name, each) for name, each in seconds.items()}
    rows = {row.metric: row for row in compared(SD15, results, ["tensorrt-fp16-sm90", "onnx-cuda-fp16", PLAIN])}
    first = rows[f"sd15, one image, {COMPILED} / tensorrt-fp16-sm90"]
    assert (first.measured, first.goal, first.met) == (2.0, ">= 1.6", True)
    assert rows[f"sd15, one image, {COMPILED} / onnx-cuda-fp16"].goal is None
    assert rows[f"sd15, one image, {PLAIN} / onnx-cuda-fp16"].measured == 1.25, "what fusion is worth"
    assert rows["sd15, one image, onnx-cuda-fp16"].measured == 400
    assert rows["sd15, GPU memory, onnx-cuda-fp16"].measured == 3.0
    assert rows["sd15, peak resident memory, onnx-cuda-fp16"].measured == 1.0


def test_the_share_of_the_matrix_peak() -> None:
    rate, share, peak = saturated(SD15, {1: 2.0, 8: 10.0}, peak=1000.0, steps=20)
    assert (rate.metric, rate.measured) == ("sd15, images a second, 8 at once", 10.0)
    assert (share.measured, share.met) == (0.346, False), "34.6 TFLOP an image"
    assert peak.measured == 1000.0
    _, share, _ = saturated(SDXL, {1: 2.0, 8: 2.0}, peak=1000.0, steps=20)
    assert share.measured == round(2 * (40 * SDXL.row + SDXL.decode) / 1e6, 3)


def test_int8_is_measured_beside_tensorrt_of_the_smaller_one() -> None:
    targets = ["tensorrt-fp16", "onnx-cuda-fp16", PLAIN]
    assert chosen(SD15, targets) == [*targets, "tensorrt-int8"]
    assert chosen(SDXL, targets) == targets
    assert chosen(SD15, targets[1:]) == targets[1:], "there is no TensorRT"


class Nvml:
    """NVML's three calls; `code` is what the last of them answers."""

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, _: object) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetMemoryInfo(self, _: object, memory: Any) -> int:  # noqa: N802
        memory._obj.used = 5 << 30
        return self.code


def test_the_memory_that_is_taken_of_a_gpu() -> None:
    def none(_: str) -> Any:
        raise OSError

    assert gpu_memory.used(lambda _: Nvml()) == 5 << 30
    assert gpu_memory.used(lambda _: Nvml(code=3)) == 0
    assert gpu_memory.used(none) == 0


def test_without_a_gpu_it_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "lacks", lambda _: [Lack("there is no NVIDIA driver", "")])
    with pytest.raises(SystemExit, match=r"^The part gpu needs an NVIDIA GPU, and here there is no NVIDIA driver; "):
        gpu.run()
