"""Device: the GPU that a target is compiled for, or all that this machine lacks for it and what to do about each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from darkroom import gpu
from darkroom.gpu import TENSORRT, Gpu, NoGpu
from model_build import BuildRefused
from model_build.compile.targets import TargetSpec

_INSTALL = "pip uninstall onnxruntime, then pip install --constraint constraints.txt '.[gpu]'"


@dataclass(frozen=True)
class Device:
    """The GPU and the versions of what compiles for it; `tensorrt` is None where it is not installed."""

    gpu: Gpu
    library: str
    cuda: str
    tensorrt: str | None


@dataclass(frozen=True)
class Lack:
    """One thing that is missing, and what to do about it."""

    what: str
    remedy: str


def this_device() -> Device:
    """This machine's, without a look at whether its libraries are complete. Raises: NoGpu."""
    tensorrt = gpu.tensorrt_version(gpu.search_folders())
    return Device(gpu.find_gpu(), _installed() or "none", gpu.wheel_facts()["cuda"], tensorrt)


def lacks(
    provider: str,
    find_gpu: Callable[[], Gpu] = gpu.find_gpu,
    installed: Callable[[], str | None] = lambda: _installed(),
    folders: Sequence[Path] | None = None,
) -> list[Lack]:
    """What this machine misses for a provider; nothing: engines can be compiled for it here."""
    missing_parts: list[Lack] = []
    try:
        device = find_gpu()
        wanted = gpu.wheel_facts()["cuda"]
        if int(device.cuda.partition(".")[0]) < int(wanted.partition(".")[0]):
            missing_parts.append(
                Lack(f"the driver runs CUDA {device.cuda} and {wanted} is needed", "install a newer NVIDIA driver")
            )
    except NoGpu as reason:
        remedy = "run this on the machine whose GPU will serve; in a container, start it with --gpus all"
        missing_parts.append(Lack(str(reason), remedy))
    pinned, present = gpu.wheel_facts()["version"], installed()
    if present != pinned:
        what = "is not installed" if present is None else f"is {present}"
        missing_parts.append(Lack(f"onnxruntime-gpu {what}; {pinned} is needed", _INSTALL))
    missing = gpu.shortages(provider, gpu.search_folders() if folders is None else folders)
    missing_parts += [Lack(str(shortage), _INSTALL) for shortage in missing]
    return missing_parts


def require(spec: TargetSpec) -> Device:
    """The device a target is compiled for here. Raises: BuildRefused, with the first thing that is missing."""
    missing = lacks(spec.provider)
    if missing:
        raise BuildRefused(
            f"{spec.name} is compiled on the GPU that will run it, and here {missing[0].what}; "
            "`python -m model_build doctor` lists all that is missing."
        )
    return this_device()


def compiled_for(device: Device | None, spec: TargetSpec, *, stripped: bool) -> TargetSpec:
    """A TensorRT target's name ends in the architecture it is compiled for; all others stay as they are.

    Raises: BuildRefused where another architecture was asked for.
    """
    if device is None or spec.provider != TENSORRT:
        return spec
    if spec.architecture not in ("", device.gpu.architecture):
        raise BuildRefused(
            f"{spec.name}-{spec.architecture} is compiled on a GPU of that architecture, "
            f"and this one ({device.gpu.name}) is {device.gpu.architecture}."
        )
    options = {**spec.options, "trt_weight_stripped_engine_enable": "1"} if stripped else spec.options
    return replace(spec, name=f"{spec.name}-{device.gpu.architecture}", options=options)


def _installed() -> str | None:
    try:
        return version("onnxruntime-gpu")
    except PackageNotFoundError:
        return None
