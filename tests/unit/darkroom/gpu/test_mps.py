"""MPS as CUDA would find it, and the limit that has to be there before CUDA starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.gpu.mps import Mps, find_mps, keep_to, memory_asked_elsewhere

GIB = 1 << 30


@pytest.fixture
def running(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose daemon runs."""
    (tmp_path / "nvidia-cuda-mps-control.pid").touch()
    return {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}


def test_it_is_there_while_its_daemons_file_is(running: dict[str, str], tmp_path: Path) -> None:
    assert find_mps(running) == Mps(str(tmp_path))
    (tmp_path / "nvidia-cuda-mps-control.pid").unlink()
    assert find_mps(running) is None


def test_limits_set_by_the_operator_are_told(running: dict[str, str], tmp_path: Path) -> None:
    given = {**running, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=8G", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "40"}
    found = find_mps(given)
    assert str(found) == f"MPS at {tmp_path}: memory 0=8G, 40 % of the processors"
    assert keep_to(0.5, given, lambda: pytest.fail("not asked")) == found


def test_a_fraction_becomes_a_limit(running: dict[str, str]) -> None:
    found = keep_to(0.25, running, lambda: 24 * GIB)
    assert found is not None
    assert found.memory == running["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=6144M"


def test_nothing_is_bounded_without_mps_a_fraction_or_a_gpu(running: dict[str, str], tmp_path: Path) -> None:
    before = dict(running)
    assert keep_to(1.0, running, lambda: pytest.fail("not asked")) == Mps(str(tmp_path))
    assert keep_to(0.5, running, lambda: None) == Mps(str(tmp_path))
    assert running == before
    nowhere = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "none")}
    assert keep_to(0.5, nowhere, lambda: pytest.fail("not asked")) is None


def test_the_gpu_is_asked_in_another_process() -> None:
    found = memory_asked_elsewhere()
    assert found is None or found > GIB
