"""The loop, turned step by step over a fake engine."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import structlog

from darkroom.errors import (
    DarkroomError,
    DeadlineExceeded,
    Draining,
    GenerationFailed,
    GenerationInvalid,
    JobCancelled,
    OutOfMemory,
)
from runtime.serving.generation import Look

PATIENCE = 10  # seconds; a bound for waits that end at once


def test_a_request_becomes_an_image(service, admit, turn_until_idle, store, manifest) -> None:
    generation = admit(service, id="one", num_inference_steps=5)
    assert turn_until_idle(service) == 5
    result = generation.answer.result(PATIENCE)
    (image,) = result.images
    assert (image.key, image.seed, image.width, image.height) == ("images/one/0.png", 7, 32, 32)
    assert (result.model, result.version, result.target) == ("tiny", manifest.version, "plain")
    assert len(store.objects[image.key]) == image.size


def test_requests_of_any_kind_share_a_batch_at_different_steps(service, admit, engine) -> None:
    with structlog.testing.capture_logs() as logs:
        admit(service, num_inference_steps=50, guidance_scale=5.0)
        for _ in range(3):
            service.loop.turn()
        admit(service, prompt="dog", num_inference_steps=4, sampler="noisy")
        service.loop.turn()
    steps = [line for line in logs if line["event"] == "step"]
    assert (steps[-1]["rows"], steps[-1]["steps"], steps[-1]["mixed"]) == (3, [0, 3], True)
    assert len(set(engine.calls[-1])) == 2


def test_a_line_for_every_step_but_at_info_only_when_the_members_change(service, admit, turn_until_idle) -> None:
    with structlog.testing.capture_logs() as logs:
        admit(service, num_inference_steps=4)
        turn_until_idle(service)
    levels = [line["log_level"] for line in logs if line["event"] == "step"]
    assert levels == ["info", "debug", "debug", "debug"]


@pytest.mark.parametrize(("call", "row", "pay"), [(1.0, 0.1, 8), (0.0, 1.0, 2)])
def test_how_many_rows_pay_is_learned_where_nobody_measured_it(
    build_service, bundle, admit, engine, clock, monkeypatch, turn_until_idle, call: float, row: float, pay: int
) -> None:
    predict = engine.predict

    def timed(latents, *arguments, **conditioning):
        clock.now += call + row * len(latents)
        return predict(latents, *arguments, **conditioning)

    monkeypatch.setattr(engine, "predict", timed)
    service = build_service(replace(bundle, row_cap=None), max_rows=8)
    for _ in range(16):
        admit(service, num_inference_steps=10, guidance_scale=5.0)
    with structlog.testing.capture_logs() as logs:
        turn_until_idle(service)
    rows = [len(call) for call in engine.calls]
    assert rows[:6] == [2, 4] * 3
    assert rows[24] == pay
    assert [line["rows"] for line in logs if line["event"] == "row cap"] == [pay]


def test_requests_finish_by_their_work_not_their_arrival(service, admit, turn_until_idle) -> None:
    denoised: list[int] = []

    def listen(look: Look) -> None:
        if look.step == look.steps:
            denoised.append(look.steps)

    steps = [50, 4, 30, 8, 20, 12, 42, 6, 36, 16, 25, 10]
    for number in steps:
        admit(service, num_inference_steps=number, guidance_scale=4.0, listener=listen)
    turn_until_idle(service)
    assert service.admission.wait_until_idle(PATIENCE)
    assert denoised == sorted(steps)


def test_images_of_a_request_come_from_consecutive_seeds(service, admit, turn_until_idle) -> None:
    four = admit(service, num_images=3, seed=2**32 - 2)
    alone = [admit(service, seed=seed) for seed in (2**32 - 2, 2**32 - 1, 0)]
    turn_until_idle(service)
    images = four.answer.result(PATIENCE).images
    assert [image.seed for image in images] == [2**32 - 2, 2**32 - 1, 0]
    assert [image.sha256 for image in images] == [g.answer.result(PATIENCE).images[0].sha256 for g in alone]


def test_prompts_are_encoded_once_a_request_and_the_empty_one_once(service, admit, turn_until_idle, engine) -> None:
    admit(service, num_images=4, guidance_scale=3.0)
    admit(service, prompt="dog", guidance_scale=3.0)
    turn_until_idle(service)
    assert engine.encoded == 3


def test_progress_counts_the_steps_of_all_images(service, admit, turn_until_idle) -> None:
    looks: list[Look] = []
    admit(service, num_images=2, num_inference_steps=3, listener=looks.append)
    turn_until_idle(service)
    assert [(look.step, look.steps) for look in looks] == [(2, 6), (4, 6), (6, 6)]
    assert all(look.denoised is not None and look.denoised.shape == (4, 4, 4) for look in looks)


def test_cancelling_frees_the_rows_at_the_next_boundary(service, admit, engine, store, turn_until_idle) -> None:
    gone, stays = admit(service, num_inference_steps=50), admit(service, prompt="dog", num_inference_steps=3)
    service.loop.turn()
    assert gone.fail(JobCancelled())
    service.loop.turn()
    assert [len(call) for call in engine.calls] == [2, 1]
    turn_until_idle(service)
    assert stays.answer.result(PATIENCE).images
    assert list(store.objects) == [f"images/{stays.id}/0.png"]
    assert gone.trajectories[0].latents.size == 0


def test_cancelled_while_the_last_step_runs_uploads_nothing(service, admit, engine, store, turn_until_idle) -> None:
    generation = admit(service, num_inference_steps=1)
    engine.before_predict = lambda: generation.fail(JobCancelled())
    turn_until_idle(service)
    assert engine.decoded == 0
    assert store.writes == 0


def test_a_deadline_that_passes_in_the_queue_means_it_never_starts(
    service, admit, engine, clock, turn_until_idle
) -> None:
    late, punctual = admit(service, deadline_seconds=5), admit(service, deadline_seconds=500)
    clock.now += 5
    turn_until_idle(service)
    assert isinstance(late.answer.exception(PATIENCE), DeadlineExceeded)
    assert not late.begun
    assert punctual.answer.result(PATIENCE)
    assert all(len(call) == 1 for call in engine.calls)


def test_a_deadline_that_passes_on_the_way_ends_it_at_the_boundary(
    service, admit, engine, clock, turn_until_idle
) -> None:
    generation = admit(service, deadline_seconds=5, num_inference_steps=50)

    def tick() -> None:
        clock.now += 2

    engine.before_predict = tick
    assert turn_until_idle(service) == 3
    assert isinstance(generation.answer.exception(PATIENCE), DeadlineExceeded)


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("poison", GenerationFailed),
        ("nan", GenerationInvalid),
        ("black", GenerationInvalid),
        ("unencodable", GenerationFailed),
    ],
)
def test_a_bad_request_fails_alone(service, admit, turn_until_idle, prompt, error) -> None:
    expected = admit(service, sampler="noisy", guidance_scale=3.0)
    turn_until_idle(service)
    good = admit(service, sampler="noisy", guidance_scale=3.0)
    bad = admit(service, prompt=prompt, num_images=2)
    turn_until_idle(service)
    assert type(bad.answer.exception(PATIENCE)) is error
    same = [generation.answer.result(PATIENCE).images[0].sha256 for generation in (expected, good)]
    assert same[0] == same[1]


def test_out_of_memory_splits_the_batch_and_is_remembered(service, admit, engine, turn_until_idle) -> None:
    engine.most_rows = 4
    many = [admit(service, seed=seed, guidance_scale=2.0, num_inference_steps=3) for seed in range(4)]
    turn_until_idle(service)
    assert all(generation.answer.result(PATIENCE) for generation in many)
    assert [len(call) for call in engine.calls[:3]] == [8, 4, 4]
    assert max(len(call) for call in engine.calls[3:]) == 4


def test_a_single_image_out_of_memory_is_told_so(service, admit, engine, turn_until_idle) -> None:
    engine.most_rows = 1
    generation = admit(service, guidance_scale=2.0)
    turn_until_idle(service)
    assert isinstance(generation.answer.exception(PATIENCE), OutOfMemory)


def test_a_fault_of_our_own_answers_everyone_and_the_loop_goes_on(service, admit, monkeypatch) -> None:
    real = service.loop._batcher.pick
    faults = [ValueError("ours")]

    def pick(*arguments: object) -> object:
        if faults:
            raise faults.pop()
        return real(*arguments)

    monkeypatch.setattr(service.loop._batcher, "pick", pick)
    first = admit(service)
    thread = threading.Thread(target=service.loop.run)
    thread.start()
    assert type(first.answer.exception(PATIENCE)) is DarkroomError
    assert admit(service).answer.result(PATIENCE)
    service.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_hung_step_answers_its_requests_and_the_loop_recovers(service, admit, engine, clock) -> None:
    entered, released = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        assert released.wait(PATIENCE)

    engine.before_predict = hang
    stuck = admit(service)
    thread = threading.Thread(target=service.loop.run)
    thread.start()
    assert entered.wait(PATIENCE)
    clock.now += 119
    service.loop.watch()
    assert not service.loop.hung
    assert not stuck.answered
    clock.now += 1
    service.loop.watch()
    assert service.loop.hung
    assert isinstance(stuck.answer.exception(PATIENCE), GenerationFailed)
    released.set()
    engine.before_predict = lambda: None
    assert admit(service).answer.result(PATIENCE)
    assert not service.loop.hung
    service.stop()
    thread.join(PATIENCE)


def test_a_hung_engine_is_no_reason_to_give_up_an_upload(service, admit, engine, clock, store, monkeypatch) -> None:
    uploading, hanging = threading.Event(), threading.Event()
    put = store.put

    def slow_put(*arguments: object, **named: object) -> None:
        assert uploading.wait(PATIENCE)
        put(*arguments, **named)

    def hang_and_look() -> None:
        clock.now += 120
        service.loop.watch()
        hanging.set()

    monkeypatch.setattr(store, "put", slow_put)
    made = admit(service, num_inference_steps=1)
    service.loop.turn()
    stuck = admit(service)
    engine.before_predict = hang_and_look
    service.loop.turn()
    assert hanging.is_set()
    assert isinstance(stuck.answer.exception(PATIENCE), GenerationFailed)
    uploading.set()
    assert made.answer.result(PATIENCE)


def test_draining_answers_what_has_not_begun_and_finishes_the_rest(build_service, admit, turn_until_idle) -> None:
    service = build_service(max_rows=2)
    running = admit(service, guidance_scale=3.0)
    service.loop.turn()
    waiting = admit(service, guidance_scale=3.0, num_inference_steps=50)
    service.admission.drain()
    assert isinstance(waiting.answer.exception(0), Draining)
    with pytest.raises(Draining):
        admit(service)
    turn_until_idle(service)
    assert running.answer.result(PATIENCE)


def test_strict_mode_runs_rows_alone(build_service, admit, engine, turn_until_idle) -> None:
    service = build_service(strict=True)
    for _ in range(3):
        admit(service, guidance_scale=3.0, num_images=2)
    turn_until_idle(service)
    assert {len(call) for call in engine.calls} == {2}
    assert all(call[0] == call[1] for call in engine.calls)


def test_sizes_never_mix(service, admit, engine, turn_until_idle, monkeypatch) -> None:
    shapes: list[tuple[int, ...]] = []
    real = engine.predict

    def predict(latents: np.ndarray, timestep: np.ndarray, **conditioning: np.ndarray) -> np.ndarray:
        shapes.append(latents.shape)
        return real(latents, timestep, **conditioning)

    monkeypatch.setattr(engine, "predict", predict)
    generations = [admit(service, width=width, height=32) for width in (16, 32, 16, 64)]
    turn_until_idle(service)
    widths = [generation.answer.result(PATIENCE).images[0].width for generation in generations]
    assert widths == [16, 32, 16, 64]
    assert {shape[1:] for shape in shapes} == {(4, 4, 2), (4, 4, 4), (4, 4, 8)}
