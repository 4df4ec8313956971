"""The replica's status, from loading to draining."""

from __future__ import annotations

import threading

import pytest

from darkroom.contracts import GenerationRequest, Invocation
from darkroom.errors import Draining, EngineIntegrity, OutOfMemory, RuntimeUnavailable, StorageUnavailable
from runtime.serving.engine_thread import EngineStatus, EngineThread

PATIENCE = 10
INVOCATION = Invocation(id="one", request=GenerationRequest(prompt="a cat", seed=1))


@pytest.fixture
def loading(service, metrics, clock):
    """A replica whose loading the test lets go on, and the event that does so."""
    proceed = threading.Event()

    def load():
        assert proceed.wait(PATIENCE)
        return service

    replica = EngineThread(load, metrics, on_failure=lambda: None, clock=clock)
    replica.start()
    yield replica, proceed
    proceed.set()
    replica.stop(PATIENCE)


@pytest.fixture
def ready(loading, service):
    replica, proceed = loading
    proceed.set()
    wait_for(replica, EngineStatus.READY)
    return replica


def wait_for(replica: EngineThread, status: EngineStatus) -> None:
    """Loading ends on another thread, which announces it to nobody: look until it has."""
    pause = threading.Event()
    for _ in range(1000):
        if replica.status is status:
            return
        pause.wait(0.01)
    raise AssertionError(f"{replica.status} instead of {status}")


def test_it_takes_nothing_before_a_warmed_image(loading, engine, metrics) -> None:
    replica, proceed = loading
    assert replica.describe() == {"status": "loading"}
    with pytest.raises(RuntimeUnavailable, match="loading") as refused:
        replica.admit(INVOCATION)
    assert refused.value.retry_after
    assert b"runtime_ready 0.0" in metrics.exposition()
    proceed.set()
    wait_for(replica, EngineStatus.READY)
    assert engine.decoded == 1
    assert b"runtime_ready 1.0" in metrics.exposition()


def test_ready_it_says_what_it_serves(ready, manifest) -> None:
    described = {"status": "ready", "model": "tiny", "version": manifest.version, "target": "plain"}
    assert ready.describe() == described
    assert ready.admit(INVOCATION).answer.result(PATIENCE).images


@pytest.mark.parametrize(
    ("fault", "sentence", "may_pass"),
    [
        (EngineIntegrity("unet.bin is not what its manifest says."), "unet.bin is not what its manifest says.", False),
        (ValueError("/secret/path"), "The engine could not be started (ValueError); see the log.", False),
        (MemoryError(), "There was not enough memory to start the engine.", True),
        (OutOfMemory("The warm-up needs more."), "The warm-up needs more.", True),
        (StorageUnavailable("The store is away."), "The store is away.", True),
    ],
)
def test_a_failed_load_is_one_sentence(metrics, fault, sentence, may_pass) -> None:
    failed = threading.Event()

    def load():
        raise fault

    replica = EngineThread(load, metrics, on_failure=failed.set)
    replica.start()
    assert failed.wait(PATIENCE)
    assert (replica.status, replica.failure, replica.may_pass) == (EngineStatus.FAILED, sentence, may_pass)
    with pytest.raises(RuntimeUnavailable):
        replica.admit(INVOCATION)


def test_draining_finishes_what_is_in_flight(ready, service, engine) -> None:
    entered, released = threading.Event(), threading.Event()

    def pause() -> None:
        entered.set()
        assert released.wait(PATIENCE)

    engine.before_predict = pause
    running = ready.admit(INVOCATION)
    assert entered.wait(PATIENCE)
    waiting = ready.admit(INVOCATION.model_copy(update={"id": "two"}))
    draining = threading.Thread(target=ready.drain, args=(PATIENCE,))
    draining.start()
    assert isinstance(waiting.answer.exception(PATIENCE), Draining)
    assert ready.status is EngineStatus.DRAINING
    with pytest.raises(Draining):
        ready.admit(INVOCATION)
    released.set()
    assert running.answer.result(PATIENCE).images
    draining.join(PATIENCE)
    assert not draining.is_alive()


def test_what_does_not_finish_in_time_is_answered_draining(ready, engine) -> None:
    entered, released = threading.Event(), threading.Event()

    def pause() -> None:
        entered.set()
        assert released.wait(PATIENCE)

    engine.before_predict = pause
    running = ready.admit(INVOCATION)
    assert entered.wait(PATIENCE)
    ready.drain(0)
    assert isinstance(running.answer.exception(0), Draining)
    released.set()


def test_told_to_stop_while_loading_it_never_serves(loading, service) -> None:
    replica, proceed = loading
    replica.drain(0)
    assert replica.status is EngineStatus.DRAINING
    proceed.set()
    replica.stop(PATIENCE)
    assert replica.describe() == {"status": "draining"}


def test_hung_it_is_not_ready_until_the_call_returns(ready, engine, clock) -> None:
    entered, released = threading.Event(), threading.Event()

    def pause() -> None:
        entered.set()
        assert released.wait(PATIENCE)

    engine.before_predict = pause
    generation = ready.admit(INVOCATION)
    assert entered.wait(PATIENCE)
    clock.now += 120
    ready.watch()
    assert generation.answered
    assert ready.status is EngineStatus.HUNG
    with pytest.raises(RuntimeUnavailable, match="hung"):
        ready.admit(INVOCATION)
    released.set()
    wait_for(ready, EngineStatus.READY)
