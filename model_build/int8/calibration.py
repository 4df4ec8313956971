"""Calibration: inputs that a checkpoint's own trajectories give its networks, recorded from its fp32 engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_build.compile import Engine
from model_build.layout import CALIBRATED, CALIBRATION_STEPS, SAMPLERS
from model_build.proof.control import ControlSetting
from model_build.proof.generation import BundlePipeline, Setting
from model_build.proof.trial import Arrays


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
    images = []
    for index, prompt in enumerate(prompts):
        sampler = SAMPLERS[index % len(SAMPLERS)]
        control = (ControlSetting(controls[index // 2 % len(controls)]),) if controls and index % 2 else ()
        images.append(Setting(prompt, width, height, CALIBRATION_STEPS, guidance, sampler, index, control))
    return images
