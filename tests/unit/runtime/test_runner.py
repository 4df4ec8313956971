"""The runner: rows for the engine, and failures kept apart."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.errors import GenerationFailed, GenerationInvalid, OutOfMemory
from runtime.runner import Runner
from runtime.samplers import SamplerTables
from runtime.trajectory import Status, Trajectory


@pytest.fixture
def runner(bundle) -> Runner:
    return Runner(bundle.engine, bundle.manifest.latents, bundle.tokenizer.encode("").ids)


@pytest.fixture
def begin(runner, bundle, tables: SamplerTables):
    def begin(prompt: str = "a cat", sampler: str = "plain", steps: int = 4, scale: float = 1.0, seed: int = 1):
        table = tables.table(sampler, steps)
        trajectory = Trajectory(request=0, index=0, seed=seed, shape=(4, 4, 4), table=table, guidance_scale=scale)
        embeds = runner.encode(bundle.tokenizer.encode(prompt).ids)
        if trajectory.guided:
            embeds = np.concatenate([runner.encode(bundle.tokenizer.encode("").ids), embeds])
        trajectory.begin({"prompt_embeds": embeds})
        return trajectory

    return begin


def finish(runner: Runner, *trajectories: Trajectory) -> list[bytes]:
    while left := [trajectory for trajectory in trajectories if trajectory.steps_left]:
        assert not runner.step(left).failures
    return [trajectory.latents.tobytes() for trajectory in trajectories]


def test_the_empty_prompt_is_encoded_once(runner, bundle, engine) -> None:
    empty = bundle.tokenizer.encode("").ids
    assert runner.encode(empty) is runner.encode(empty)
    runner.encode(bundle.tokenizer.encode("cat").ids)
    assert engine.encoded == 2


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
        a, b = table.update(step)[:4], table.update(step)[4:]
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
    assert (good.step, good.status) == (1, Status.STEPPING)


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
@pytest.mark.parametrize("call", ["decode", "encode"])
def test_faults_of_single_calls_are_told_apart(runner, bundle, engine, monkeypatch, call, fault, error) -> None:
    def faulty(_: object) -> object:
        if fault is not None:
            raise fault
        return np.full((1, 3, 8, 8), np.inf, np.float32)

    monkeypatch.setattr(engine, call, faulty)
    argument = np.zeros((4, 1, 1), np.float32) if call == "decode" else bundle.tokenizer.encode("cat").ids
    with pytest.raises(error):
        getattr(runner, call)(argument)


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
    assert fed.keys() == {"prompt_embeds", "time_ids"}
    assert fed["prompt_embeds"].shape == (3, 8, 4)
    assert fed["time_ids"][:, 0].tolist() == [0, 0, 1]
