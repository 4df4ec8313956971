"""Admission: bounded, and whoever is let in gets exactly one answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import structlog

from darkroom.contracts import GenerationRequest, GenerationResult
from darkroom.errors import Draining, GenerationFailed, JobCancelled, Overloaded
from runtime.bundles.tokenizer import Tokens
from runtime.serving.admission import Admission
from runtime.serving.generation import Generation

PATIENCE = 10
TOKENS = Tokens(np.zeros((1, 2), np.int64), 0)


def generation(*trajectories: SimpleNamespace, accepted: float = 0.0) -> Generation:
    request = GenerationRequest(prompt="a cat", seed=1)
    return Generation("it", "tenant", request, trajectories, (TOKENS, TOKENS), accepted=accepted)


def waiting(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> threading.Thread:
    """A thread that has begun to wait in `what`."""
    blocked, wait = threading.Event(), threading.Condition.wait
    thread = threading.Thread(target=what, daemon=True)

    def wait_and_tell(self: threading.Condition, timeout: float | None = None) -> bool:
        if threading.current_thread() is thread:
            blocked.set()
        return wait(self, timeout)

    monkeypatch.setattr(threading.Condition, "wait", wait_and_tell)
    thread.start()
    assert blocked.wait(PATIENCE)
    return thread


@pytest.fixture
def admission(metrics, clock) -> Admission:
    return Admission(2, metrics, clock)


def test_who_waits_for_arrivals_has_each_once(admission, monkeypatch) -> None:
    thread, submitted = waiting(monkeypatch, admission.wait_for_arrivals), generation()
    admission.submit(submitted)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert admission.take_arrivals() == [submitted]
    assert admission.take_arrivals() == []


def test_what_is_held_counts_and_arrives_when_it_is_handed_over(admission, monkeypatch, metrics) -> None:
    held, thread = generation(), waiting(monkeypatch, admission.wait_for_arrivals)
    admission.hold(held)
    admission.hold(generation())
    assert "darkroom_runtime_unanswered_requests 2.0" in metrics.exposition().decode()
    for refused in (admission.check, lambda: admission.hold(generation()), lambda: admission.submit(generation())):
        with pytest.raises(Overloaded):
            refused()
    assert admission.take_arrivals() == []
    admission.hand_over(held)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert admission.take_arrivals() == [held]
    held.fail(JobCancelled())
    assert "darkroom_runtime_unanswered_requests 1.0" in metrics.exposition().decode()
    admission.check()


def test_draining_answers_what_has_not_begun_and_accepts_nothing(admission) -> None:
    begun, not_begun = generation(), generation()
    begun.begun = True
    for one in (begun, not_begun):
        admission.submit(one)
    admission.drain()
    assert isinstance(not_begun.answer.exception(0), Draining)
    assert not begun.answered
    for refused in (admission.check, lambda: admission.submit(generation())):
        with pytest.raises(Draining):
            refused()


def test_a_stopped_one_says_so_and_accepts_nothing(admission) -> None:
    assert not admission.stopped
    admission.stop()
    assert admission.stopped
    with pytest.raises(Draining):
        admission.check()


def test_who_waits_until_idle_is_told_by_the_last_answer(admission, monkeypatch) -> None:
    last = generation()
    admission.submit(last)
    thread = waiting(monkeypatch, lambda: admission.wait_until_idle(1000 * PATIENCE))
    last.fail(JobCancelled())
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_only_what_succeeded_is_timed(admission, metrics, clock) -> None:
    made, failed = generation(accepted=clock.now), generation(accepted=clock.now - 1)
    for one in (made, failed):
        admission.submit(one)
    clock.now += 1.23456789
    with structlog.testing.capture_logs() as logs:
        failed.fail(JobCancelled())
        made.succeed(GenerationResult.model_construct())
    assert [line["seconds"] for line in logs] == [2.2346, 1.2346]
    exposition = metrics.exposition().decode()
    assert "darkroom_runtime_request_seconds_count 1.0" in exposition
    assert "darkroom_runtime_request_seconds_sum 1.2345" in exposition


def test_retry_after_is_the_work_of_an_average_request_and_two_minutes_at_most(admission) -> None:
    admission.submit(generation(SimpleNamespace(rows=2, steps_left=20, status=None)))
    admission.hold(generation())  # needs the engine no more
    admission.record_row_cost(0.5)
    for pace, seconds in ((0.5, 10), (1000.0, 120)):
        admission.record_row_cost(pace)
        with pytest.raises(Overloaded) as refused:
            admission.check()
        assert refused.value.retry_after == seconds


def test_beyond_the_bound_it_is_overloaded_with_retry_after(build_service, admit, turn_until_idle) -> None:
    service = build_service(max_queue=2)
    admitted = [admit(service), admit(service)]
    with pytest.raises(Overloaded) as refused:
        admit(service)
    assert refused.value.retry_after == 1
    turn_until_idle(service)
    assert all(generation.answer.result(PATIENCE) for generation in admitted)
    assert service.admission.wait_until_idle(PATIENCE)
    admit(service)


def test_retry_after_follows_the_pace_of_the_steps(build_service, admit, engine, clock) -> None:
    service = build_service(max_queue=1)

    def tick() -> None:
        clock.now += 0.5

    engine.before_predict = tick
    admit(service, num_inference_steps=41)
    service.loop.turn()
    with pytest.raises(Overloaded) as refused:
        admit(service)
    assert refused.value.retry_after == 20  # 40 rows at half a second


def test_giving_up_a_waiting_request_makes_room_at_once(build_service, admit) -> None:
    service = build_service(max_queue=1)
    first = admit(service)
    first.fail(JobCancelled())
    admit(service)


def test_the_first_answer_stands(service, admit) -> None:
    generation = admit(service)
    assert generation.fail(JobCancelled())
    assert not generation.fail(GenerationFailed())
    assert isinstance(generation.answer.exception(0), JobCancelled)


def test_answers_from_many_threads_are_one_answer(service, admit) -> None:
    generation = admit(service)
    barrier = threading.Barrier(8)
    wins: list[bool] = []

    def race() -> None:
        barrier.wait(PATIENCE)
        wins.append(generation.fail(JobCancelled()))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert wins.count(True) == 1


def test_waiting_until_idle_tells_whether_it_was_in_time(service, admit) -> None:
    assert service.admission.wait_until_idle(0)
    generation = admit(service)
    assert not service.admission.wait_until_idle(0)
    generation.fail(JobCancelled())
    assert service.admission.wait_until_idle(0)


def test_giving_up_answers_everything(service, admit) -> None:
    generations = [admit(service) for _ in range(3)]
    service.admission.give_up(Draining())
    assert all(isinstance(generation.answer.exception(0), Draining) for generation in generations)


def test_giving_up_may_pick(service, admit) -> None:
    first, second = admit(service), admit(service)
    service.admission.give_up(Draining(), lambda generation: generation is first)
    assert (first.answered, second.answered) == (True, False)


def test_a_stopped_admission_lets_go_of_who_waits(service) -> None:
    thread = threading.Thread(target=service.admission.wait_for_arrivals)
    thread.start()
    service.admission.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_every_answer_is_counted_and_logged_without_the_prompt(service, admit, turn_until_idle, metrics) -> None:
    with structlog.testing.capture_logs() as logs:
        made, failed = admit(service, prompt="a cat"), admit(service, prompt="poison")
        turn_until_idle(service)
        assert made.answer.result(PATIENCE)
        assert failed.answer.exception(PATIENCE)
        assert service.admission.wait_until_idle(PATIENCE)
    exposition = metrics.exposition().decode()
    assert 'darkroom_runtime_requests_total{outcome="succeeded"} 1.0' in exposition
    assert 'darkroom_runtime_requests_total{outcome="generation_failed"} 1.0' in exposition
    assert "darkroom_runtime_unanswered_requests 0.0" in exposition
    answers = {line["id"]: line for line in logs if line["event"] == "answered"}
    assert answers[made.id]["prompt_characters"] == 5
    assert all("cat" not in str(line) for line in logs)
