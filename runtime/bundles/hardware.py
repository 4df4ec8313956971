"""What this machine offers, and the first of a bundle's targets that fits it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from darkroom import gpu
from darkroom.bundles.manifest import EngineManifest, Requirements, Target
from darkroom.errors import EngineIncompatible
from darkroom.gpu import Gpu

# An engine library may come from one of several distributions.
_DISTRIBUTIONS = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu")}


@dataclass(frozen=True)
class Machine:
    """Installed engine libraries with their versions, the processor's features as Linux names them, and the GPU.

    `gpu` is the GPU, or why there is none; `lacks` has what each of ONNX Runtime's GPU providers misses here.
    """

    libraries: Mapping[str, str]
    cpu_features: frozenset[str]
    gpu: Gpu | str = "nobody has looked for one"
    lacks: Mapping[str, str] = field(default_factory=dict)
    tensorrt: str | None = None

    def misses(self, target: Target) -> str | None:
        """What this machine lacks for a target, for the operator; None where it fits."""
        needs = target.requires
        installed = self.libraries.get(needs.library)
        if installed is None:
            return f"{needs.library} is not installed"
        if _release(installed) != _release(needs.version):
            return f"it was built for {needs.library} {needs.version} and {installed} is installed"
        lacking = sorted(set(needs.cpu_features) - self.cpu_features)
        if lacking:
            return f"the processor lacks {', '.join(lacking)}"
        return self._misses_gpu(needs, target.options.get("provider", ""))

    def gpu_bytes(self, fraction: float, bundles: int = 1) -> int | None:
        """What each of so many bundles may take of a fraction of the GPU's memory, in bytes; None (no limit but the
        GPU's own) for all of it or without one.
        """
        return None if isinstance(self.gpu, str) or fraction >= 1 else int(self.gpu.memory_bytes * fraction / bundles)

    def _misses_gpu(self, needs: Requirements, provider: str) -> str | None:
        if needs.cuda is None and needs.gpu_architecture is None:
            return None
        if isinstance(self.gpu, str):
            return f"it needs a GPU, and {self.gpu}"
        if needs.gpu_architecture not in (None, self.gpu.architecture):
            return f"it needs a GPU of architecture {needs.gpu_architecture}, and this one is {self.gpu.architecture}"
        if needs.cuda is not None and int(self.gpu.cuda.split(".")[0]) < int(needs.cuda.split(".")[0]):
            return f"it needs a driver for CUDA {needs.cuda}, and this one runs {self.gpu.cuda}"
        if self.lacks.get(provider):
            return self.lacks[provider]
        if needs.tensorrt is not None and _release(self.tensorrt or "") != _release(needs.tensorrt):
            return f"it was built for TensorRT {needs.tensorrt} and {self.tensorrt} is installed"
        return None


@dataclass(frozen=True)
class Choice:
    """The target that is run, and the preferred one that does not fit where that is of a better kind."""

    target: Target
    preferred: Target | None = None


def this_machine() -> Machine:
    """Looks only at metadata, files and the GPU's driver: no engine library is imported."""
    libraries: dict[str, str] = {}
    installed_as: dict[str, str] = {}
    for library, distributions in _DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                libraries[library] = importlib.metadata.version(distribution)
                installed_as[library] = distribution
            except importlib.metadata.PackageNotFoundError:
                continue
            break
    features = _cpu_features(Path("/proc/cpuinfo"))
    try:
        device = gpu.find_gpu()
    except gpu.NoGpu as reason:
        return Machine(libraries, features, str(reason))
    folders = gpu.search_folders()
    return Machine(
        libraries,
        features,
        device,
        {provider: _lacks(provider, installed_as.get("onnxruntime"), folders) for provider in gpu.PROVIDERS},
        gpu.tensorrt_version(folders),
    )


def _lacks(provider: str, distribution: str | None, folders: Sequence[Path]) -> str:
    if distribution != "onnxruntime-gpu":
        return "onnxruntime-gpu is not installed"
    return ", ".join(map(str, gpu.shortages(provider, folders)))


def choose_target(manifest: EngineManifest, machine: Machine, wanted: str | None) -> Choice:
    """The target called `wanted`, or else the first that fits: the manifest's order is its preference.

    Raises: EngineIncompatible, saying what is lacking.
    """
    offered = [target for target in manifest.targets if wanted in (None, target.name)]
    if not offered:
        names = ", ".join(target.name for target in manifest.targets)
        raise EngineIncompatible(f"The bundle has no target {wanted}; it has {names}.")
    lacking: list[str] = []
    for target in offered:
        missing = machine.misses(target)
        if missing is None:
            return Choice(target, None if _kind(target) == _kind(offered[0]) else offered[0])
        structlog.get_logger().info("target passed over", target=target.name, reason=missing)
        lacking.append(f"{target.name}: {missing}")
    raise EngineIncompatible(f"No engine in the bundle fits this machine ({'; '.join(lacking)}).")


def _kind(target: Target) -> tuple[str, str]:
    """Targets of one kind differ in what they were compiled for; another kind is another way to run."""
    return target.format, target.options.get("provider", "")


def _release(version: str) -> tuple[str, ...]:
    """Major and minor: engine files are good within them."""
    return tuple(version.split(".")[:2])


def processor() -> str:
    """The processor's name as Linux has it, else empty."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _cpu_features(cpuinfo: Path) -> frozenset[str]:
    """The flags of the first processor; none where the system does not list them."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())
