"""The runner: rows for the engine, and failures kept apart."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.errors import GenerationFailed, GenerationInvalid, OutOfMemory
from runtime.denoising.control import AppliedControl
from runtime.denoising.runner import Runner
from runtime.denoising.samplers import UPDATES, SamplerTables
from runtime.denoising.trajectory import Trajectory, TrajectoryStatus


@pytest.fixture
def runner(bundle) -> Runner:
    return Runner(bundle.engine, bundle.manifest, bundle.tokenizer.encode("").ids)


@pytest.fixture
def begin(runner, bundle, tables: SamplerTables):
    def begin(
        prompt: str = "a cat", sampler: str = "plain", steps: int = 4, scale: float = 1.0, seed: int = 1, controls=()
    ):
        table = tables.table(sampler, steps)
        trajectory = Trajectory(
            request=0, index=0, seed=seed, shape=(4, 4, 4), table=table, guidance_scale=scale, controls=controls
        )
        positive, negative = (bundle.tokenizer.encode(text).ids for text in (prompt, ""))
        trajectory.begin(runner.encode(positive, negative if trajectory.guided else None, 32, 32, scale))
        return trajectory

    return begin


def finish(runner: Runner, *trajectories: Trajectory) -> list[bytes]:
    while left := [trajectory for trajectory in trajectories if trajectory.steps_left]:
        assert not runner.step(left).failures
    return [trajectory.latents.tobytes() for trajectory in trajectories]


def test_every_row_has_its_own_timestep(runner, begin, engine) -> None:
    guided, unguided = begin(steps=4, scale=5.0), begin(steps=2)
    runner.step([guided])
    runner.step([guided, unguided])
    assert engine.calls[1] == pytest.approx([749.25, 749.25, 999.0])
    assert (guided.step, unguided.step) == (2, 1)


def test_a_step_is_the_formula(runner, begin, engine) -> None:
    trajectory = begin(sampler="noisy", steps=3, scale=4.0, seed=5)
    x, d = trajectory.latents, trajectory.denoised
    noise = np.random.Generator(np.random.Philox(5))
    noise.standard_normal(x.shape, np.float32)
    for step in range(3):
        table = trajectory.table
        rows = np.repeat((0.5 * x)[None], 2, axis=0).astype(np.float32)
        time = np.full(2, table.timestep(step), np.float32)
        negative, positive = engine.predict(rows, time, **trajectory.conditioning)
        m = negative + 4.0 * (positive - negative)
        n = noise.standard_normal(x.shape, np.float32) if step < 2 else 0
        a, b = np.split(np.array(table.row(step)[UPDATES]), 2)
        x, d = a[0] * x + a[1] * m + a[2] * d + a[3] * n, b[0] * x + b[1] * m + b[2] * d + b[3] * n
        runner.step([trajectory])
        np.testing.assert_allclose(trajectory.latents, x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(trajectory.denoised, d, rtol=1e-4, atol=1e-5)


def test_neighbours_change_nothing(runner, begin) -> None:
    kinds = [{"sampler": "plain", "steps": 6, "scale": 3.0}, {"sampler": "noisy", "steps": 4}, {"prompt": "dog"}]
    alone = [finish(runner, begin(**kind))[0] for kind in kinds]
    assert finish(runner, *(begin(**kind) for kind in kinds)) == alone


def test_only_the_poison_fails(runner, begin) -> None:
    expected = finish(runner, begin(sampler="noisy"))
    good, poison, other = begin(sampler="noisy"), begin("poison"), begin("dog")
    outcome = runner.step([good, poison, other])
    assert [type(error) for error in outcome.failures.values()] == [GenerationFailed]
    assert list(outcome.failures) == [poison]
    assert all(isinstance(cause, RuntimeError) for cause in outcome.causes)
    assert (good.step, other.step, poison.step) == (1, 1, 0)
    assert finish(runner, good) == expected  # no noise was drawn twice


def test_only_the_row_that_is_not_finite_fails(runner, begin) -> None:
    good, bad = begin(), begin("nan", scale=3.0)
    outcome = runner.step([bad, good])
    assert {trajectory: type(error) for trajectory, error in outcome.failures.items()} == {bad: GenerationInvalid}
    assert (good.step, good.status) == (1, TrajectoryStatus.STEPPING)


def test_a_batch_too_large_for_memory_is_split(runner, begin, engine) -> None:
    engine.most_rows = 2
    batch = [begin(scale=3.0, seed=seed) for seed in range(4)]
    outcome = runner.step(batch)
    assert not outcome.failures
    assert [trajectory.step for trajectory in batch] == [1, 1, 1, 1]
    assert outcome.largest_refused == 8


def test_a_single_image_too_large_for_memory_fails_alone(runner, begin, engine) -> None:
    engine.most_rows = 1
    small, large = begin(), begin(scale=3.0)
    outcome = runner.step([small, large])
    assert {trajectory: type(error) for trajectory, error in outcome.failures.items()} == {large: OutOfMemory}
    assert small.step == 1


def test_decoding_gives_pixels(runner, begin) -> None:
    pixels = runner.decode(begin().latents)
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(MemoryError(), OutOfMemory), (RuntimeError("x"), GenerationFailed), (None, GenerationInvalid)],
)
@pytest.mark.parametrize("call", ["decode", "encode", "encode_image"])
def test_faults_of_single_calls_are_told_apart(runner, bundle, engine, monkeypatch, call, fault, error) -> None:
    def faulty(_: object) -> object:
        if fault is not None:
            raise fault
        wrong = np.full((1, 3, 8, 8), np.inf, np.float32)
        return {"decode": wrong, "encode": {"prompt_embeds": wrong}, "encode_image": (wrong, wrong)}[call]

    monkeypatch.setattr(engine, call, faulty)
    arguments = {
        "decode": [np.zeros((4, 1, 1), np.float32)],
        "encode": [bundle.tokenizer.encode("cat").ids, None, 8, 8, 1.0],
        "encode_image": [np.zeros((8, 8, 3), np.uint8)],
    }[call]
    with pytest.raises(error):
        getattr(runner, call)(*arguments)


def test_every_row_input_is_stacked_by_its_name(runner, begin, engine, monkeypatch) -> None:
    fed = {}

    def predict(latents, timestep, **conditioning):
        fed.update(conditioning)
        return np.zeros_like(latents)

    monkeypatch.setattr(engine, "predict", predict)
    guided, unguided = begin(scale=5.0), begin()
    for value, trajectory in enumerate((guided, unguided)):
        trajectory.conditioning["time_ids"] = np.full((trajectory.rows, 6), value, np.float32)
    runner.step([guided, unguided])
    assert fed.keys() == {"prompt_embeds", "time_ids", "down_residual_0", "mid_residual"}
    assert fed["prompt_embeds"].shape == (3, 8, 4)
    assert fed["time_ids"][:, 0].tolist() == [0, 0, 1]


def canny(brightness: float, scale: float = 1.0, steps: range = range(60), component: str = "controlnet_canny"):
    return AppliedControl(component, np.full((3, 32, 32), brightness, np.float32), scale, steps)


def test_control_runs_for_the_rows_it_acts_on_and_in_one_call(runner, begin, engine) -> None:
    early = begin(steps=4, scale=5.0, controls=[canny(0.5, steps=range(2))])
    late = begin(steps=2, controls=[canny(0.5, steps=range(1, 2))])
    plain = begin(steps=8)
    for _ in range(2):
        runner.step([early, plain, late])
    runner.step([early, plain])
    assert [len(call) for call in engine.calls] == [4, 4, 3]
    first, second = [999.0, 999.0], [749.25, 749.25, 499.5]
    assert [times for _, times in engine.controlled] == [pytest.approx(first), pytest.approx(second)]


def test_neighbours_with_and_without_control_change_nothing(runner, begin) -> None:
    kinds = [
        {"controls": [canny(0.5)], "scale": 3.0},
        {"sampler": "noisy", "steps": 3},
        {"controls": [canny(0.25, 0.5), canny(1.0, component="controlnet_depth")], "steps": 6},
    ]
    alone = [finish(runner, begin(**kind))[0] for kind in kinds]
    assert finish(runner, *(begin(**kind) for kind in kinds)) == alone


def test_residuals_are_scaled_and_added_up(runner, begin) -> None:
    def latents(*controls):
        trajectory = begin(steps=1, scale=4.0, controls=controls)
        finish(runner, trajectory)
        return trajectory.latents

    plain = latents()
    np.testing.assert_array_equal(latents(canny(1.0, 0.0)), plain)
    np.testing.assert_allclose(latents(canny(0.5)), plain - 0.2 * 0.5, atol=1e-6)
    np.testing.assert_allclose(latents(canny(0.5, 2.0)), plain - 0.2, atol=1e-6)
    two = canny(0.5), canny(0.25, component="controlnet_depth")
    np.testing.assert_allclose(latents(*two), plain - 0.2 * 0.75, atol=1e-6)
    np.testing.assert_allclose(latents(canny(0.5), canny(0.25)), plain - 0.2 * 0.75, atol=1e-6)


def test_without_control_the_same_zeros_are_given_again_and_again(runner, begin, engine, monkeypatch) -> None:
    fed = []
    real = engine.predict
    monkeypatch.setattr(engine, "predict", lambda *args, **named: (fed.append(named), real(*args, **named))[1])
    batch = [begin(), begin(scale=5.0)]
    runner.step(batch)
    runner.step(batch)
    assert [fed[0][name].shape for name in ("down_residual_0", "mid_residual")] == [(3, 4, 4, 4), (3, 2, 2, 2)]
    assert not fed[0]["down_residual_0"].any()
    assert fed[1]["mid_residual"] is fed[0]["mid_residual"]


def test_a_control_image_that_breaks_its_net_fails_alone(runner, begin) -> None:
    good, bad = begin(controls=[canny(0.5)]), begin(controls=[canny(float("nan"))])
    outcome = runner.step([good, bad])
    assert {trajectory: type(error) for trajectory, error in outcome.failures.items()} == {bad: GenerationInvalid}
    assert good.step == 1


def test_a_picture_is_encoded_and_scaled(runner) -> None:
    mean, std = runner.encode_image(np.full((32, 32, 3), 255, np.uint8))
    assert (mean.shape, mean.dtype, std.shape) == ((4, 4, 4), np.float32, (4, 4, 4))
    np.testing.assert_allclose(mean, 0.5)  # white is 1, and the scaling factor one half
    np.testing.assert_allclose(std, 0.125)
