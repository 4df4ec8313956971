"""The GPU as the driver describes it, and why there is none: a driver in Python stands for the library."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom.gpu import Gpu, NoGpu, find_gpu


class Driver:
    """The seven calls of libcuda that are made; each answers 0 or the error in `errors`."""

    def __init__(self, devices: int = 1, **errors: int) -> None:
        self.devices = devices
        self.errors = errors

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == "cuDeviceGetCount":
                arguments[0]._obj.value = self.devices
            elif name == "cuDeviceGetName":
                arguments[0].value = b"NVIDIA A10G"
            elif name == "cuDeviceTotalMem_v2":
                arguments[0]._obj.value = 24 << 30
            elif name == "cuDriverGetVersion":
                arguments[0]._obj.value = 13020
            elif name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 8, 76: 6}[arguments[1]]
            return self.errors.get(name, 0)

        return call


def test_a_gpu() -> None:
    assert find_gpu(lambda _: Driver()) == Gpu("NVIDIA A10G", "sm86", 24 << 30, "13.2")


def test_no_driver() -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    with pytest.raises(NoGpu, match=r"^there is no NVIDIA driver \(libcuda\.so\.1 is missing\)$"):
        find_gpu(missing)


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (Driver(cuInit=100), r"does not start: it sees no device \(error 100\)"),
        (Driver(cuInit=803), r"its kernel module is of another version \(error 803\)"),
        (Driver(cuDeviceGetName=717), r"see cuda\.h \(error 717\)"),
        (Driver(devices=0), "^the NVIDIA driver sees no device$"),
    ],
)
def test_a_driver_without_a_usable_gpu(driver: Driver, said: str) -> None:
    with pytest.raises(NoGpu, match=said):
        find_gpu(lambda _: driver)
