"""From an invocation to trajectories: defaults, limits, warnings; and the warm-up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from darkroom.bundles.fingerprint import Profile
from darkroom.errors import GenerationFailed, GenerationInvalid, InvalidDimensions, InvalidParameter, OutOfRange
from runtime.config import RuntimeConfig
from runtime.metrics import Metrics
from runtime.serving.service import Service

PATIENCE = 10


def test_defaults_come_from_the_manifest(service, admit) -> None:
    generation = admit(service, guidance_scale=None, seed=None)
    (trajectory,) = generation.trajectories
    assert (trajectory.table.steps, trajectory.guidance_scale, trajectory.shape) == (4, 3.0, (4, 4, 4))
    assert trajectory.seed == generation.request.seed


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"width": 20}, InvalidDimensions),
        ({"width": 128}, InvalidDimensions),
        ({"sampler": "unknown"}, InvalidParameter),
        ({"num_inference_steps": 61}, OutOfRange),
    ],
)
def test_what_the_bundle_cannot_make_is_refused(service, admit, fields, error) -> None:
    with pytest.raises(error):
        admit(service, **fields)
    assert service.admission.wait_until_idle(0)


def test_a_prompt_that_is_cut_is_a_warning(service, admit, turn_until_idle) -> None:
    generation = admit(service, prompt="cat " * 10, negative_prompt="dog " * 7)
    turn_until_idle(service)
    warnings = generation.answer.result(PATIENCE).warnings
    assert [warning.code for warning in warnings] == ["prompt_truncated", "prompt_truncated"]
    assert "last 4 tokens of prompt" in warnings[0].detail
    assert "negative_prompt" in warnings[1].detail


def test_timings_add_up(service, admit, engine, clock, turn_until_idle) -> None:
    def tick() -> None:
        clock.now += 0.5

    generation = admit(service)
    clock.now += 3
    engine.before_predict = tick
    turn_until_idle(service)
    timings = generation.answer.result(PATIENCE).timings
    assert (timings.queue, timings.denoise, timings.total) == (3, 2, 5)


def test_warming_makes_a_whole_image(service, engine) -> None:
    service.warm()
    assert (engine.encoded, [len(call) for call in engine.calls], engine.decoded) == (1, [2, 2], 1)


@pytest.mark.parametrize(
    ("call", "outcome", "error"),
    [("predict", RuntimeError("broken"), GenerationFailed), ("decode", None, GenerationInvalid)],
)
def test_a_failed_warm_up_says_so(service, engine, monkeypatch, call, outcome, error) -> None:
    real = getattr(engine, call)

    def faulty(*arguments):
        if outcome is not None:
            raise outcome
        return real(*arguments) * float("nan")

    monkeypatch.setattr(engine, call, faulty)
    with pytest.raises(error):
        service.warm()


def test_the_same_request_twice_is_the_same_image(service, admit, turn_until_idle) -> None:
    hashes = []
    for _ in range(2):
        generation = admit(service, sampler="noisy", guidance_scale=5.0, num_images=3)
        turn_until_idle(service)
        hashes.append([image.sha256 for image in generation.answer.result(PATIENCE).images])
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 3


def test_a_fallback_is_a_warning_and_a_metric(bundle, store, clock, admit, turn_until_idle) -> None:
    metrics = Metrics()
    fallen = replace(bundle, preferred=bundle.manifest.targets[0])
    service = Service(fallen, RuntimeConfig(), store, metrics, clock, lambda _: None)
    generation = admit(service)
    turn_until_idle(service)
    (warning,) = generation.answer.result(PATIENCE).warnings
    service.stop()
    assert warning.code == "target_fallback"
    assert warning.detail.startswith("This machine cannot run fast, ")
    assert b"darkroom_runtime_target_fallback 1.0" in metrics.exposition()


def test_no_more_rows_than_the_engine_was_made_for(bundle, store, metrics, clock) -> None:
    profile = Profile(rows=(1, 2, 4), height=(2, 4, 8), width=(2, 4, 8))
    bounded = replace(bundle, target=bundle.target.model_copy(update={"profile": profile}))
    for settings, most in ((RuntimeConfig(max_rows=16), 4), (RuntimeConfig(max_rows=2), 2)):
        service = Service(bounded, settings, store, metrics, clock, lambda _: None)
        service.stop()
        assert service.loop._batcher._max_rows == most


@pytest.mark.parametrize(("row_cap", "most"), [(None, 16), (2, 2), (8, 8), (32, 16)])
def test_no_more_rows_share_a_call_than_pay(bundle, store, metrics, clock, row_cap, most) -> None:
    advised = replace(bundle, row_cap=row_cap)
    service = Service(advised, RuntimeConfig(max_rows=16), store, metrics, clock, lambda _: None)
    service.stop()
    assert service.loop._batcher._max_rows == most


@pytest.mark.parametrize(
    ("provider", "settings", "tiled"),
    [
        ({}, {}, True),
        ({"provider": "CUDAExecutionProvider"}, {}, False),
        ({}, {"tile_beyond": 0}, False),
        ({"provider": "CUDAExecutionProvider"}, {"tile_beyond": 512}, True),
    ],
)
def test_large_images_are_decoded_in_tiles_where_memory_is_a_cpus(
    bundle, build_service, engine, provider: dict[str, str], settings: dict[str, int], tiled: bool
) -> None:
    target = bundle.target.model_copy(update={"options": provider})
    service = build_service(replace(bundle, target=target), **settings)
    before = engine.decoded
    service._runner.decode(np.zeros((4, 97, 8), np.float32))
    assert (engine.decoded - before > 1) is tiled
