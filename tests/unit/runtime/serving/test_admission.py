"""Admission: bounded, and whoever is let in gets exactly one answer."""

from __future__ import annotations

import threading

import pytest
import structlog

from darkroom.errors import Draining, GenerationFailed, JobCancelled, Overloaded

PATIENCE = 10


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
