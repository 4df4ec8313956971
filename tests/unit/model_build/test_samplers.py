"""Every sampler's table gives what diffusers' own scheduler gives."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from model_build import BuildRefused
from model_build.layout import MAX_STEPS, SAMPLERS
from model_build.samplers import COLUMNS, create, entries, first_updates, probe, replaced_noise, tables

STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
CONFIGS = {
    "epsilon": {**STABLE_DIFFUSION, "prediction_type": "epsilon", "clip_sample": False, "set_alpha_to_one": False},
    "v_prediction": {**STABLE_DIFFUSION, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
}
CONFIGS["v_prediction"]["clip_sample"] = False


def mixed(x: torch.Tensor, timestep: float) -> torch.Tensor:
    """A stand-in for a UNet: bounded, and different at every element and step."""
    weights = torch.linspace(-0.4, 0.4, 16, dtype=torch.float64).view(4, 4)
    return torch.tanh(torch.einsum("bchw,cd->bdhw", x, weights) + timestep / 1000)


def with_scheduler(scheduler: Any, x: torch.Tensor, noises: list[torch.Tensor]) -> torch.Tensor:
    draws = iter(noises)
    x = x * scheduler.init_noise_sigma
    with replaced_noise(lambda _: next(draws)):
        for timestep in scheduler.timesteps:
            model_input = scheduler.scale_model_input(x, timestep)
            x = scheduler.step(mixed(model_input, float(timestep)), timestep, x).prev_sample
    return x


def with_table(table: np.ndarray, sigma: float, x: torch.Tensor, noises: list[torch.Tensor]) -> torch.Tensor:
    x, d = x * sigma, torch.zeros_like(x)
    for (timestep, c_in, *a, d_x, d_model, d_denoised, d_noise), n in zip(table, noises, strict=True):
        m = mixed(c_in * x, timestep)
        x, d = (
            a[0] * x + a[1] * m + a[2] * d + a[3] * n,
            d_x * x + d_model * m + d_denoised * d + d_noise * n,
        )
    return x


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 25, 50, 51, 100])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prediction", CONFIGS)
def test_a_table_replays_its_scheduler(prediction: str, name: str, steps: int) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64, generator=random)
    noises = [torch.randn(1, 4, 6, 6, dtype=torch.float64, generator=random) for _ in range(steps)]
    scheduler = create(name, CONFIGS[prediction], steps)
    table = probe(create(name, CONFIGS[prediction], steps))
    wanted = with_scheduler(scheduler, x, noises)
    found = with_table(table, float(scheduler.init_noise_sigma), x, noises)
    assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max()


@pytest.mark.parametrize(("steps", "entry"), [(1, 0), (8, 0), (8, 3), (20, 12), (20, 19), (61, 40)])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prediction", CONFIGS)
def test_a_table_that_is_entered_later_replays_image_to_image(
    prediction: str, name: str, steps: int, entry: int
) -> None:
    """As StableDiffusionImg2ImgPipeline runs a scheduler from the step that its strength gives."""
    random = torch.Generator().manual_seed(0)
    image, noise = torch.randn(2, 1, 4, 6, 6, dtype=torch.float64, generator=random)
    noises = [torch.randn(1, 4, 6, 6, dtype=torch.float64, generator=random) for _ in range(steps - entry)]
    scheduler = create(name, CONFIGS[prediction], steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(entry)
    wanted = scheduler.add_noise(image, noise, scheduler.timesteps[entry : entry + 1])
    draws = iter(noises)
    with replaced_noise(lambda _: next(draws)):
        for timestep in scheduler.timesteps[entry:]:
            model_input = scheduler.scale_model_input(wanted, timestep)
            wanted = scheduler.step(mixed(model_input, float(timestep)), timestep, wanted).prev_sample

    scheduler = create(name, CONFIGS[prediction], steps)
    (of_image, of_noise), table = entries(scheduler)[entry], probe(scheduler)[entry:]
    if hasattr(scheduler, "model_outputs"):
        table[0, 2:] = first_updates(scheduler)[entry]
    found = with_table(table, 1.0, of_image * image + of_noise * noise, noises)
    assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max()


@pytest.mark.parametrize("prediction", CONFIGS)
def test_all_tables(prediction: str) -> None:
    found = tables(CONFIGS[prediction], max_steps=MAX_STEPS)
    assert len(found) == len(SAMPLERS) * (2 * MAX_STEPS + 1) + MAX_STEPS
    for name in SAMPLERS:
        assert found[f"{name}/init_noise_sigma"].shape == (MAX_STEPS,)
        for steps in range(1, MAX_STEPS + 1):
            table = found[f"{name}/{steps}"]
            assert table.shape == (steps, len(COLUMNS))
            assert np.isfinite(table).all()
            assert (np.diff(table[:, 0]) < 0).all(), "timesteps fall"
            assert table[-1, COLUMNS.index("a_noise")] == 0, "no noise is added to what is shown"
            latents, noise = found[f"{name}/{steps}/entry"].T
            assert (latents > 0).all()
            assert (np.diff(noise / latents) < 0).all(), "noise falls"


def test_only_ancestral_samplers_draw_noise() -> None:
    drawn = {name: probe(create(name, CONFIGS["epsilon"], 4))[:, COLUMNS.index("a_noise")] for name in SAMPLERS}
    assert {name for name, column in drawn.items() if column.any()} == {"euler_a", "lcm"}
    assert drawn["euler_a"][:3].all()
    assert drawn["lcm"][:3].all()


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_a", "dpmpp_2m"])
def test_a_count_that_diffusers_rounds_up(name: str) -> None:
    by_itself = type(create(name, CONFIGS["v_prediction"], 61)).from_config(CONFIGS["v_prediction"])
    by_itself.set_timesteps(61)
    assert by_itself.timesteps[-1] == -1, "diffusers has mended this: drop _exact"
    table = probe(create(name, CONFIGS["v_prediction"], 61))
    assert table[:, 0].tolist() == by_itself.timesteps[:-1].tolist()
    a, d = table[-1, 2:6], table[-1, 6:10]
    assert np.abs(a - d).max() < 0.05, "the last step ends at the denoised latents"


def test_lcm_takes_more_steps_than_it_was_distilled_with() -> None:
    assert create("lcm", CONFIGS["epsilon"], 4).config.original_inference_steps == 50
    assert create("lcm", CONFIGS["epsilon"], 77).config.original_inference_steps == 77
    assert (
        create("lcm", {**CONFIGS["epsilon"], "original_inference_steps": 90}, 77).config.original_inference_steps == 90
    )


def test_the_steps_of_one_checkpoint_come_from_its_own_config() -> None:
    table = probe(create("ddim", CONFIGS["v_prediction"], 4))
    assert table[:, 0].tolist() == [999, 749, 499, 249]


def test_a_schedule_without_finite_tables() -> None:
    with pytest.raises(BuildRefused, match=r"gives no finite table for ddim/\d+"):
        tables({**CONFIGS["epsilon"], "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, max_steps=2)


def test_an_unknown_sampler() -> None:
    with pytest.raises(BuildRefused, match="no sampler heun; use one of ddim, euler, euler_a, dpmpp_2m, lcm"):
        create("heun", CONFIGS["epsilon"], 4)


def test_diffusers_draws_its_own_noise_again_afterwards() -> None:
    scheduler = create("euler_a", CONFIGS["epsilon"], 2)
    probe(scheduler)
    scheduler.set_timesteps(2)
    x = torch.zeros(1, 4, 2, 2)
    scheduler.scale_model_input(x, scheduler.timesteps[0])
    after = scheduler.step(x, scheduler.timesteps[0], x, generator=torch.Generator().manual_seed(0)).prev_sample
    assert len(after.unique()) == after.numel()
    assert isinstance(scheduler, diffusers.EulerAncestralDiscreteScheduler)
