"""Sampler tables: loading refuses what is malformed; one update for many rows equals the formula row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from darkroom.errors import EngineIntegrity
from model_build import samplers as build
from runtime.denoising.samplers import UPDATES, SamplerTable, SamplerTables, advance

REPEATABLE = settings(deadline=None, derandomize=True)


def test_a_table_tells_each_step(tables) -> None:
    table = tables.table("noisy", 5)
    assert table.steps == 5
    assert table.init_noise_sigma == 3.0
    assert table.timestep(0) == 999
    assert table.input_scale(2) == 0.5
    assert [table.needs_noise(step) for step in range(5)] == [True, True, True, True, False]
    assert table.row(1)[UPDATES] == [0.9, -0.2, 0.05, 0.3, 1.0, -0.5, 0, 0]


def test_tables_cannot_be_changed(tables) -> None:
    with pytest.raises(ValueError, match="read-only"):
        tables.table("plain", 3).coefficients[0] = 0


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("plain/3", None),
        ("plain/3", np.zeros((4, 10))),
        ("plain/3", np.zeros((3, 10), np.float32)),
        ("plain/3", np.full((3, 10), np.nan)),
        ("noisy/init_noise_sigma", np.full(3, 1.0)),
    ],
)
def test_a_malformed_table_is_refused(contents, manifest, name, broken) -> None:
    tensors = load(contents["samplers.safetensors"])
    if broken is None:
        del tensors[name]
    else:
        tensors[name] = broken
    with pytest.raises(EngineIntegrity, match=name):
        SamplerTables(save(tensors), manifest.samplers)


def test_a_file_of_another_kind_is_refused(manifest) -> None:
    with pytest.raises(EngineIntegrity, match="cannot be read"):
        SamplerTables(b"\x80\x04 not safetensors", manifest.samplers)


@REPEATABLE
@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_many_rows_at_once_equal_the_formula_row_by_row(rows: int, seed: int, noisy: bool) -> None:
    random = np.random.default_rng(seed)
    updates = random.normal(size=(rows, 8)).astype(np.float32)
    x, m, d, n = random.normal(size=(4, rows, 3, 2, 2)).astype(np.float32)
    latents, denoised = advance(updates, x, m, d, n if noisy else None)
    for row in range(rows):
        a, b = updates[row, :4], updates[row, 4:]
        parts = [x[row], m[row], d[row], n[row] if noisy else np.zeros_like(n[row])]
        np.testing.assert_allclose(latents[row], sum(w * p for w, p in zip(a, parts, strict=True)), atol=1e-5)
        np.testing.assert_allclose(denoised[row], sum(w * p for w, p in zip(b, parts, strict=True)), atol=1e-5)


@REPEATABLE
@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_a_row_is_bitwise_the_same_alone(rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    updates = random.normal(size=(rows, 8)).astype(np.float32)
    x, m, d, n = random.normal(size=(4, rows, 4, 3, 5)).astype(np.float32)
    together = advance(updates, x, m, d, n)
    for row in range(rows):
        one = slice(row, row + 1)
        alone = advance(updates[one], x[one], m[one], d[one], n[one])
        assert together[0][row].tobytes() == alone[0][0].tobytes()
        assert together[1][row].tobytes() == alone[1][0].tobytes()


def test_results_stay_in_single_precision() -> None:
    one = np.ones((1, 4, 2, 2), np.float32)
    assert advance(np.ones((1, 8), np.float32), one, one, one, None).dtype == np.float32


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["ddim", "euler", "euler_a", "dpmpp_2m", "lcm"])
def test_marginals_are_those_that_diffusers_adds_noise_with(name: str, prediction: str) -> None:
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = build.create(name, {**betas, "prediction_type": prediction, "clip_sample": False}, 10)
    table = SamplerTable(build.probe(scheduler), 1.0)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for step in range(10):
        timestep = scheduler.timesteps[step : step + 1]
        wanted = float(scheduler.add_noise(one, 0 * one, timestep)), float(scheduler.add_noise(0 * one, one, timestep))
        # The consistency model's boundary condition mixes a little of x into its estimate.
        np.testing.assert_allclose(table.marginal(step), wanted, atol=2e-3 if name == "lcm" else 1e-5)
