"""Uploads: retried within bounds, never for a request that was given up, and never a reason to make an image again."""

from __future__ import annotations

import hashlib
import threading

import pytest

from darkroom.contracts import GenerationRequest, Invocation
from darkroom.errors import DarkroomError, JobCancelled, StorageFull, StorageUnavailable
from darkroom.images.finished import image_key

PATIENCE = 10


def test_keys_depend_on_nothing_but_the_invocation() -> None:
    assert image_key("abc", 2, "webp") == "images/abc/2.webp"


def test_a_store_that_recovers_gets_the_image(service, admit, turn_until_idle, store, metrics) -> None:
    store.faults = [StorageUnavailable(), StorageUnavailable(), StorageUnavailable()]
    generation = admit(service)
    turn_until_idle(service)
    (image,) = generation.answer.result(PATIENCE).images
    assert hashlib.sha256(store.objects[image.key]).hexdigest() == image.sha256
    assert b"upload_retries_total 3.0" in metrics.exposition()


@pytest.mark.parametrize(("fault", "tries"), [(StorageUnavailable, 4), (StorageFull, 1)])
def test_a_store_that_does_not_recover_is_told(service, admit, turn_until_idle, store, fault, tries) -> None:
    store.faults = [fault() for _ in range(10)]
    generation = admit(service)
    turn_until_idle(service)
    assert isinstance(generation.answer.exception(PATIENCE), fault)
    assert store.writes == tries


def test_a_retry_of_the_invocation_uploads_without_the_engine(service, admit, turn_until_idle, store, engine) -> None:
    store.faults = [StorageFull()]
    failed = admit(service, id="same", num_images=2)
    turn_until_idle(service)
    assert failed.answer.exception(PATIENCE)
    steps = len(engine.calls)
    retried = admit(service, id="same", num_images=2)
    result = retried.answer.result(PATIENCE)
    assert len(engine.calls) == steps
    assert [image.key for image in result.images] == ["images/same/0.png", "images/same/1.png"]
    assert result.timings.denoise == 0

    again = admit(service, id="same", num_images=2, cache="off")  # stored by now, so not kept any longer
    turn_until_idle(service)
    assert again.answer.result(PATIENCE).images == result.images
    assert len(engine.calls) > steps


@pytest.mark.parametrize("changed", [{"seed": 8}, {"prompt": "dog"}, {"id": "other"}])
def test_another_request_is_made_anew(service, admit, turn_until_idle, store, engine, changed) -> None:
    store.faults = [StorageFull()]
    failed = admit(service, id="same")
    turn_until_idle(service)
    assert failed.answer.exception(PATIENCE)
    steps = len(engine.calls)
    admit(service, **{"id": "same", **changed})
    turn_until_idle(service)
    assert len(engine.calls) > steps


def test_another_tenant_never_gets_kept_images(service, admit, turn_until_idle, store) -> None:
    store.faults = [StorageFull()]
    failed = admit(service, id="same")
    turn_until_idle(service)
    assert failed.answer.exception(PATIENCE)
    request = GenerationRequest(prompt="a cat", seed=7, guidance_scale=1.0)
    other = service.admit(Invocation(id="same", tenant="other", request=request), None)
    assert not other.begun


def test_given_up_between_tries_stores_nothing(build_service, bundle, store, admit, turn_until_idle) -> None:
    service = build_service()
    generation = admit(service)
    store.faults = [StorageUnavailable()]
    service._uploader._wait = lambda _: generation.fail(JobCancelled())
    turn_until_idle(service)
    assert isinstance(generation.answer.exception(PATIENCE), JobCancelled)
    service._uploader._pool.shutdown(wait=True)
    assert not store.objects


def test_an_unforeseen_fault_is_answered(service, admit, turn_until_idle, store) -> None:
    store.faults = [OSError("secret path")]
    generation = admit(service)
    turn_until_idle(service)
    error = generation.answer.exception(PATIENCE)
    assert type(error) is DarkroomError
    assert "secret" not in error.problem().model_dump_json()


def test_the_engine_does_not_wait_for_storage(service, admit, turn_until_idle, store, monkeypatch) -> None:
    released = threading.Event()
    real = store.put

    def slow(*arguments: object, **named: object) -> None:
        assert released.wait(PATIENCE)
        real(*arguments, **named)

    monkeypatch.setattr(store, "put", slow)
    first, second = admit(service, num_inference_steps=1), admit(service, num_inference_steps=30)
    assert turn_until_idle(service) == 30
    assert not first.answered
    released.set()
    assert first.answer.result(PATIENCE)
    assert second.answer.result(PATIENCE)
