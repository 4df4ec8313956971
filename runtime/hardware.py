"""What this machine offers, and the first of a bundle's targets that fits it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from darkroom.errors import EngineIncompatible
from darkroom.manifest import EngineManifest, Target

# An engine library may come from one of several distributions.
_DISTRIBUTIONS = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu")}


@dataclass(frozen=True)
class Machine:
    """Installed engine libraries with their versions, and the processor's features as Linux names them."""

    libraries: Mapping[str, str]
    cpu_features: frozenset[str]

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
        if needs.gpu_architecture is not None:
            return f"it needs a GPU of architecture {needs.gpu_architecture}"
        return None


def this_machine() -> Machine:
    """Looks only at metadata: no engine library is imported."""
    libraries: dict[str, str] = {}
    for library, distributions in _DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                libraries[library] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
            break
    return Machine(libraries, _cpu_features(Path("/proc/cpuinfo")))


def choose_target(manifest: EngineManifest, machine: Machine, wanted: str | None) -> Target:
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
            return target
        structlog.get_logger().info("target passed over", target=target.name, reason=missing)
        lacking.append(f"{target.name}: {missing}")
    raise EngineIncompatible(f"No engine in the bundle fits this machine ({'; '.join(lacking)}).")


def _release(version: str) -> tuple[str, ...]:
    """Major and minor: engine files are good within them."""
    return tuple(version.split(".")[:2])


def _cpu_features(cpuinfo: Path) -> frozenset[str]:
    """The flags of the first processor; none where the system does not list them."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())
