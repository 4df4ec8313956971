"""Sampler tables: diffusers' own schedulers, probed for the linear coefficients of each step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from model_build import BuildRefused
from model_build.layout import SAMPLERS

COLUMNS = (
    *("timestep", "c_in"),
    *("a_x", "a_model", "a_denoised", "a_noise"),
    *("d_x", "d_model", "d_denoised", "d_noise"),
)
_LCM_TRAINING_STEPS = 50  # diffusers' default of original_inference_steps


def create(name: str, config: Mapping[str, Any], steps: int) -> Any:
    """diffusers' scheduler for a sampler, made from a checkpoint's scheduler config and set to `steps`."""
    if name == "ddim":
        scheduler = diffusers.DDIMScheduler.from_config(config)
    elif name == "euler":
        scheduler = diffusers.EulerDiscreteScheduler.from_config(config)
    elif name == "euler_a":
        scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(config)
    elif name == "dpmpp_2m":
        scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
            config, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint"
        )
    elif name == "lcm":
        # The scheduler picks its steps out of those the checkpoint was distilled with, so there must be as many.
        original = max(config.get("original_inference_steps", _LCM_TRAINING_STEPS), steps)
        scheduler = diffusers.LCMScheduler.from_config(config, original_inference_steps=original)
    else:
        raise BuildRefused(f"There is no sampler {name}; use one of {', '.join(SAMPLERS)}.")
    scheduler.set_timesteps = _exact(scheduler.set_timesteps, scheduler)
    scheduler.set_timesteps(steps)
    return scheduler


def _exact(set_timesteps: Callable[..., None], scheduler: Any) -> Callable[..., None]:
    """`set_timesteps` that gives as many as were asked for.

    With trailing spacing diffusers counts down by 1000 / steps, and where the quotient is rounded down (61 steps) there
    is room for one more, at timestep -1, which would undo the image. Of a hair fewer steps there is not.
    """

    def exact(steps: int, device: Any = None) -> None:
        set_timesteps(steps, device=device)
        if len(scheduler.timesteps) > steps:
            set_timesteps(steps * (1 - 1e-9), device=device)
            scheduler.num_inference_steps = steps

    return exact


def tables(
    config: Mapping[str, Any], *, max_steps: int, advance: Callable[[], None] = lambda: None
) -> dict[str, NDArray[np.float64]]:
    """All tables: `{sampler}/{steps}` float64 [steps, 10] (see `COLUMNS`), `{sampler}/init_noise_sigma` [max_steps];
    `{sampler}/{steps}/entry` [steps, 2], see `entries`; of a multistep sampler also `{sampler}/{steps}/first`
    [steps, 8], see `first_updates`.

    One step: m = engine(c_in * x, timestep); x' = a_x x + a_model m + a_denoised d + a_noise n, and d' likewise, where
    d is the previous denoised latents and n is N(0, 1). The first latents are N(0, 1) * init_noise_sigma[steps - 1].
    """
    named_tables: dict[str, NDArray[np.float64]] = {}
    for name in SAMPLERS:
        sigmas = np.empty(max_steps)
        for steps in range(1, max_steps + 1):
            scheduler = create(name, config, steps)
            sigmas[steps - 1] = float(scheduler.init_noise_sigma)
            named_tables[f"{name}/{steps}/entry"] = entries(scheduler)
            named_tables[f"{name}/{steps}"] = probe(scheduler)
            if hasattr(scheduler, "model_outputs"):
                named_tables[f"{name}/{steps}/first"] = first_updates(scheduler)
            advance()
        named_tables[f"{name}/init_noise_sigma"] = sigmas
    for key, table in named_tables.items():
        if not np.isfinite(table).all():
            raise BuildRefused(
                f"The noise schedule of this checkpoint gives no finite table for {key}; "
                "check its scheduler/scheduler_config.json."
            )
    return named_tables


def probe(scheduler: Any) -> NDArray[np.float64]:
    """The table [steps, 10] of a scheduler whose timesteps are set.

    The update is linear in (x, m, d, n), so a batch of four rows, each with one of them 1 and the others 0, gives all
    coefficients at once. The state that a multistep sampler keeps is planted as the third of these rows.
    """
    x, model, denoised, noise = torch.eye(4, dtype=torch.float64).view(4, 4, 1, 1, 1)
    multistep = hasattr(scheduler, "model_outputs")
    rows = []
    with replaced_noise(lambda _: noise):
        for index, timestep in enumerate(scheduler.timesteps):
            c_in = float(scheduler.scale_model_input(x, timestep)[0])
            if multistep and index > 0:
                scheduler.model_outputs[-1] = denoised
            outcome = scheduler.step(model, timestep, x)
            after = scheduler.model_outputs[-1] if multistep else _denoised(outcome)
            rows.append([float(timestep), c_in, *outcome.prev_sample.flatten().tolist(), *after.flatten().tolist()])
    return np.array(rows, dtype=np.float64)


def entries(scheduler: Any) -> NDArray[np.float64]:
    """[steps, 2]: how much of an image's latents and of N(0, 1) noise there is in the latents before each step.

    Before the scheduler's first step, as diffusers' image-to-image asks it: its `add_noise` is linear in the two.
    """
    steps = len(scheduler.timesteps)
    ones, zeros = torch.ones(steps, 1, 1, 1, dtype=torch.float64), torch.zeros(steps, 1, 1, 1, dtype=torch.float64)
    latents = scheduler.add_noise(ones, zeros, scheduler.timesteps)
    noise = scheduler.add_noise(zeros, ones, scheduler.timesteps)
    table: NDArray[np.float64] = torch.stack([latents.flatten(), noise.flatten()], dim=1).double().numpy()
    return table


def first_updates(scheduler: Any) -> NDArray[np.float64]:
    """[steps, 8]: the updates of a multistep sampler that enters at each step, by its own rule for a first step."""
    x, model = torch.eye(4, dtype=torch.float64).view(4, 4, 1, 1, 1)[:2]
    rows = []
    for index, timestep in enumerate(scheduler.timesteps):
        scheduler.model_outputs = [None] * scheduler.config.solver_order
        scheduler.lower_order_nums = 0
        scheduler._step_index = None
        scheduler.set_begin_index(index)
        after = scheduler.step(model, timestep, x).prev_sample
        rows.append([*after.flatten().tolist(), *scheduler.model_outputs[-1].flatten().tolist()])
    return np.array(rows, dtype=np.float64)


def _denoised(outcome: Any) -> torch.Tensor:
    denoised: torch.Tensor = outcome.denoised if hasattr(outcome, "denoised") else outcome.pred_original_sample
    return denoised


@contextmanager
def replaced_noise(source: Callable[[tuple[int, ...]], torch.Tensor]) -> Iterator[None]:
    """Give the ancestral samplers noise from `source(shape)`: diffusers takes only a torch.Generator for it."""
    modules = [
        sys.modules[cls.__module__] for cls in (diffusers.EulerAncestralDiscreteScheduler, diffusers.LCMScheduler)
    ]
    originals = [vars(module)["randn_tensor"] for module in modules]

    def drawn(shape: tuple[int, ...], **_: Any) -> torch.Tensor:
        return source(shape)

    for module in modules:
        vars(module)["randn_tensor"] = drawn
    try:
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            vars(module)["randn_tensor"] = original
