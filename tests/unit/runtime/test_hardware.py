"""Which target fits this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from darkroom.errors import EngineIncompatible
from runtime.hardware import Machine, _cpu_features, choose_target, this_machine

BF16 = frozenset({"avx2", "avx512_bf16"})


@pytest.mark.parametrize(
    ("version", "features", "chosen"),
    [
        ("2026.4.1", BF16, "fast"),
        ("2026.4.0", BF16, "fast"),
        ("2026.4.1", frozenset({"avx2"}), "plain"),
    ],
)
def test_the_first_that_fits_is_taken(manifest, version, features, chosen) -> None:
    assert choose_target(manifest, Machine({"openvino": version}, features), None).name == chosen


def test_a_named_target_is_taken(manifest) -> None:
    assert choose_target(manifest, Machine({"openvino": "2026.4.1"}, BF16), "plain").name == "plain"


@pytest.mark.parametrize(
    ("machine", "wanted", "said"),
    [
        (Machine({}, BF16), None, "openvino is not installed"),
        (Machine({"openvino": "2026.3.0"}, BF16), None, "built for openvino 2026.4.1 and 2026.3.0 is installed"),
        (Machine({"openvino": "2026.4.1"}, frozenset()), "fast", "the processor lacks avx512_bf16"),
        (Machine({"openvino": "2026.4.1"}, BF16), "tensorrt", "no target tensorrt; it has fast, plain"),
    ],
)
def test_where_none_fits_it_says_why(manifest, machine, wanted, said) -> None:
    with pytest.raises(EngineIncompatible, match=said):
        choose_target(manifest, machine, wanted)


def test_a_gpu_target_does_not_fit_a_machine_without(manifest) -> None:
    target = manifest.targets[1]
    gpu = target.model_copy(update={"requires": target.requires.model_copy(update={"gpu_architecture": "sm86"})})
    assert "sm86" in (Machine({"openvino": "2026.4.1"}, BF16).misses(gpu) or "")


def test_this_machine_is_described_without_importing_an_engine() -> None:
    loaded = set(sys.modules)
    machine = this_machine()
    assert machine.libraries["openvino"].count(".") >= 1
    assert not {"openvino", "onnxruntime"} & (set(sys.modules) - loaded)


def test_features_are_those_of_the_first_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2\nprocessor : 1\nflags\t\t: fpu other\n")
    assert _cpu_features(cpuinfo) == {"fpu", "avx2"}
    assert _cpu_features(tmp_path / "absent") == frozenset()
