"""Calls: what networks were fed, recorded, as a file between the stage that records and those that quantize."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

from model_build.proof.trial import Arrays

_CALLS = "calls.safetensors"


def save(recorded: dict[str, Arrays], folder: Path) -> None:
    calls = {f"{part}/{name}": value for part, inputs in recorded.items() for name, value in inputs.items()}
    save_file(calls, folder / _CALLS)


def samples(folder: Path, component: str) -> list[Arrays]:
    """A component's calls, each input [1, ...]; none for a component that is not calibrated."""
    with safe_open(folder / _CALLS, "numpy") as stored:
        names = [name for name in stored.keys() if name.startswith(f"{component}/")]  # noqa: SIM118
        inputs = {name.partition("/")[2]: stored.get_tensor(name) for name in names}
    calls = len(next(iter(inputs.values()))) if inputs else 0
    return [{name: value[call : call + 1] for name, value in inputs.items()} for call in range(calls)]
