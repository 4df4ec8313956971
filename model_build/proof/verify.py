"""Verify: the same prompt from the same noise, every sampler and every component, against the diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.bundles.manifest import EngineManifest
from model_build import BuildRefused
from model_build.layout import COMPONENTS
from model_build.memory import give_back
from model_build.proof.generation import BundlePipeline, Floats, Setting, token_ids
from model_build.proof.psnr import psnr
from model_build.proof.reference import Reference
from model_build.proof.trial import trial_inputs


@dataclass(frozen=True)
class Agreement:
    """How near a target comes to diffusers, as PSNR in dB: each component's outputs, each sampler's image, and an image
    with each ControlNet, and with all of them.
    """

    target: str
    floor: float
    components: dict[str, float]
    samplers: dict[str, float]
    controls: dict[str, float]


def verify(
    reference: Reference,
    manifest: EngineManifest,
    files: Mapping[str, Path],
    floors: Mapping[str, float],
    settings: Sequence[Setting],
    threads: int,
    advance: Callable[[], None],
) -> list[Agreement]:
    """Compare every target; `floors` has the least PSNR in dB of each. `settings` has one image for each sampler, then
    those with control; `advance` is called once for each of them, and once more for each target.

    Raises: BuildRefused, naming the first target and image whose PSNR lies below the target's floor.
    """
    wanted = []
    for setting in settings:
        wanted.append(reference.generate(setting))
        advance()
    agreements = []
    for target, floor in floors.items():
        bundle = BundlePipeline(manifest, target, files, threads)
        ids = token_ids(files[manifest.text.tokenizer], manifest.text, "", settings[0].prompt)
        agreements.append(_agreement(target, floor, reference, bundle, ids, settings, wanted, advance))
        del bundle
        give_back()  # one target's networks are gone before the next one's come
    return agreements


def _agreement(
    target: str,
    floor: float,
    reference: Reference,
    bundle: BundlePipeline,
    ids: NDArray[np.int64],
    settings: Sequence[Setting],
    wanted: Sequence[Floats],
    advance: Callable[[], None],
) -> Agreement:
    """`wanted` are the reference's images."""
    control_nets = bundle.manifest.control.nets if bundle.manifest.control else ()
    names = [*COMPONENTS, *(net.component for net in control_nets)]
    components = {name: _component(name, reference, bundle, ids, settings[0]) for name in names}
    images: dict[str, float] = {}
    controls: dict[str, float] = {}
    for setting, image in zip(settings, wanted, strict=True):
        error = psnr(image, bundle.generate(setting), peak=1.0)
        control = "+".join(control.type for control in setting.controls)
        if error < floor:
            how = f"control {control}" if control else f"sampler {setting.sampler}"
            raise BuildRefused(
                f"With {how}, target {target} agrees with diffusers to {error} dB only; "
                f"at least {floor} dB is asked for."
            )
        if control:
            controls[control] = error
        else:
            images[setting.sampler] = error
        advance()
    return Agreement(target, floor, components, images, controls)


def _component(
    name: str, reference: Reference, bundle: BundlePipeline, ids: NDArray[np.int64], setting: Setting
) -> float:
    """The worst output of a component, at the setting's size and at one that no halving divides."""
    downscale = bundle.manifest.latents.downscale
    errors = []
    for grow in (0, downscale):
        inputs = trial_inputs(name, bundle.manifest, ids, setting.height + grow, setting.width + 3 * grow)
        pairs = zip(reference.component(name, inputs), bundle.component(name, inputs), strict=True)
        errors += [psnr(wanted, output, peak=float(np.abs(wanted).max())) for wanted, output in pairs]
    return min(errors)
