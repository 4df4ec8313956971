"""Calibration: inputs that a checkpoint's own trajectories give its networks, recorded from its fp32 engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from model_build.compile import Engine
from model_build.layout import CALIBRATED, CALIBRATION_STEPS, SAMPLERS
from model_build.proof.control import ControlSetting
from model_build.proof.generation import BundlePipeline, Setting
from model_build.proof.trial import Arrays

_CALLS = "calls.safetensors"


def collect(pipeline: BundlePipeline, settings: Sequence[Setting], advance: Callable[[], None]) -> dict[str, Arrays]:
    """For each of `CALIBRATED`, its inputs by name, one row a call: [calls, ...].

    A guided UNet call has two rows, of which the unguided and the guided one are kept in turns.
    """
    calls: dict[str, list[Arrays]] = {component: [] for component in CALIBRATED}

    def recorded(component: str, engine: Engine) -> Engine:
        def call(inputs: Arrays) -> list[NDArray[Any]]:
            row = len(calls[component])
            calls[component].append({name: value[row % len(value)].copy() for name, value in inputs.items()})
            return engine(inputs)

        return call

    for component in CALIBRATED:
        pipeline.engines[component] = recorded(component, pipeline.engines[component])
    for setting in settings:
        pipeline.generate(setting)
        advance()
    return {
        component: {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        for component, rows in calls.items()
    }


def settings(
    prompts: Sequence[str], width: int, height: int, guidance: float, controls: Sequence[str] = ()
) -> list[Setting]:
    """One image a prompt, each with another sampler and seed: their steps fall on different timesteps.

    With ControlNets of the types `controls`, every other image is under one of them.
    """
    found = []
    for index, prompt in enumerate(prompts):
        sampler = SAMPLERS[index % len(SAMPLERS)]
        control = (ControlSetting(controls[index // 2 % len(controls)]),) if controls and index % 2 else ()
        found.append(Setting(prompt, width, height, CALIBRATION_STEPS, guidance, sampler, index, control))
    return found


def save(found: dict[str, Arrays], folder: Path) -> None:
    calls = {f"{part}/{name}": value for part, inputs in found.items() for name, value in inputs.items()}
    save_file(calls, folder / _CALLS)


def samples(folder: Path, component: str) -> list[Arrays]:
    """A component's calls, each input [1, ...]; none for a component that is not calibrated."""
    with safe_open(folder / _CALLS, "numpy") as stored:
        names = [name for name in stored.keys() if name.startswith(f"{component}/")]  # noqa: SIM118
        inputs = {name.partition("/")[2]: stored.get_tensor(name) for name in names}
    calls = len(next(iter(inputs.values()))) if inputs else 0
    return [{name: value[call : call + 1] for name, value in inputs.items()} for call in range(calls)]
