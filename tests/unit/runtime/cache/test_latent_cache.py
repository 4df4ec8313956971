"""Similar requests through a whole service over a fake engine: what they skip, and what they look like."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest

from darkroom.errors import EngineIncompatible
from runtime.cache.calibrated import Calibrated, Calibration
from runtime.cache.entry import Entry
from runtime.cache.latent_cache import LatentCache
from runtime.denoising.trajectory import Trajectory
from tests.unit.runtime.conftest import DIM, LENGTH, cache_spec

PATIENCE = 10
STEPS = 8


@pytest.fixture
def cached(build_service, calibrated, tmp_path):
    """Services of the calibrated bundle, which share the store and this directory."""

    def build(**settings: Any):
        return build_service(calibrated, **{"cache_dir": tmp_path, **settings})

    return build


@pytest.fixture
def draw(admit, turn_until_idle, store):
    """Draws to the end: the answer and the image's bytes."""

    def draw(service, prompt: str = "a cat", **fields: Any):
        generation = admit(service, prompt, num_inference_steps=STEPS, **{"cache": "on", **fields})
        turn_until_idle(service)
        result = generation.answer.result(PATIENCE)
        return result, store.objects[result.images[0].key]

    return draw


def counted(metrics, name: str) -> dict[str, float]:
    lines = [line for line in metrics.exposition().decode().splitlines() if line.startswith(f"darkroom_runtime_{name}")]
    return {line.rpartition(" ")[0].removeprefix(f"darkroom_runtime_{name}"): float(line.split()[-1]) for line in lines}


def test_a_similar_prompt_skips_steps_and_says_so(cached, draw, metrics, engine) -> None:
    service = cached()
    first, _ = draw(service, seed=1)
    engine.calls.clear()
    second, _ = draw(service, seed=2)
    assert first.cache.model_dump() == {"hit": False, "steps_skipped": 0, "similarity": None}
    assert second.cache.model_dump() == {"hit": True, "steps_skipped": 5, "similarity": 1.0}
    assert len(engine.calls) == STEPS - 5
    assert counted(metrics, "cache_hits_total") == {'{step="5"}': 1}
    assert counted(metrics, "cache_steps_saved_total") == {"": 5}
    assert counted(metrics, "cache_lookups_total") == {'{outcome="miss"}': 1, '{outcome="hit"}': 1}


def test_after_so_many_images_from_others_one_begins_from_noise_and_starts_others(cached, draw, metrics) -> None:
    service = cached()
    answers = [draw(service, "a dog" if seed % 2 else "a cat", seed=seed)[0].cache.hit for seed in range(1, 36)]
    assert answers == [False, *[True] * 31, False, True, True]
    assert counted(metrics, "cache_lookups_total")['{outcome="renewed"}'] == 1
    assert len(service._cache._latents.memory) == 2  # of 35 images, those from noise


def test_a_less_similar_prompt_skips_less_and_an_unlike_one_nothing(cached, draw) -> None:
    service = cached()
    draw(service, "a cat", seed=1)  # words 3 and 4
    near, _ = draw(service, "a dog", seed=2)  # words 3 and 5: squared distance (in codes) 1
    far, _ = draw(service, "dog dog dog dog", seed=2)
    assert near.cache.steps_skipped == 5
    assert far.cache.model_dump() == {"hit": False, "steps_skipped": 0, "similarity": None}


def test_another_seed_is_another_image_and_the_same_cache_gives_the_same(cached, draw) -> None:
    one, other = cached(), cached()
    for service in (one, other):
        draw(service, seed=1, id="donor")
    _, image = draw(one, seed=2)
    _, again = draw(other, seed=2)
    _, another = draw(cached(cache_disk_mb=0), seed=3, id="donor")
    assert image == again
    assert image != another


@pytest.mark.parametrize("sampler", ["plain", "noisy"])
def test_there_are_hits_with_every_sampler(cached, draw, sampler: str) -> None:
    service = cached()
    draw(service, seed=1, sampler=sampler)
    result, _ = draw(service, seed=2, sampler=sampler)
    assert result.cache.steps_skipped == 5


def test_images_of_one_request_enter_each_with_its_own_noise(cached, draw, store) -> None:
    service = cached()
    draw(service, seed=1)
    result, _ = draw(service, seed=2, num_images=3)
    assert result.cache.steps_skipped == 3 * 5
    assert len({store.objects[image.key] for image in result.images}) == 3


def test_off_per_request_and_per_deployment_gives_the_bytes_of_no_cache(cached, build_service, draw) -> None:
    requests = [{"seed": 1}, {"seed": 2, "sampler": "noisy"}, {"seed": 3, "guidance_scale": 4.0}, {"seed": 1}]
    without = build_service()
    plain = [draw(without, cache="off", **fields)[1] for fields in requests]
    off = cached(cache="off")
    assert [draw(off, **fields)[1] for fields in requests] == plain
    service = cached()
    for seed in range(5):
        draw(service, seed=seed)
    found = [draw(service, cache="off", **fields) for fields in requests]
    assert [body for _, body in found] == plain
    assert not any(result.cache.hit for result, _ in found)


def test_a_named_seed_is_the_same_image_whatever_the_cache_holds(cached, draw) -> None:
    """Unless the caller says otherwise; a drawn seed is nobody's expectation."""
    _, plain = draw(cached(cache_disk_mb=0, cache_store_mb=0), seed=2, cache="auto", id="alone")
    service = cached()
    draw(service, seed=1)
    shared, other = draw(service, seed=2, id="shared")
    named, image = draw(service, seed=2, cache="auto", id="named")
    drawn, _ = draw(service, seed=None, cache="auto")
    assert (shared.cache.hit, named.cache.hit, drawn.cache.hit) == (True, False, True)
    assert image == plain != other
    again, image = draw(service, seed=2, cache="auto", id="again")
    assert again.cache.steps_skipped == STEPS
    assert image == plain


def test_off_leaves_nothing_behind(cached, draw) -> None:
    service = cached()
    draw(service, seed=1, cache="off")
    result, _ = draw(service, seed=2)
    assert not result.cache.hit


def test_nothing_is_remembered_of_an_image_that_is_not_good(cached, admit, turn_until_idle) -> None:
    service = cached()
    for prompt in ("a nan", "a black", "a poison"):
        failed = admit(service, prompt, num_inference_steps=STEPS)
        turn_until_idle(service)
        assert failed.answer.exception(PATIENCE)
    assert len(service._cache._latents.memory) == 0


def test_memory_stays_within_its_budget_and_evictions_are_counted(cached, draw, metrics) -> None:
    service = cached(cache_memory_mb=1, cache_disk_mb=0)
    memory = service._cache._latents.memory
    memory._budget = 2 * (4 * 4 * 4 * 2 + 4)
    for prompt in ("cat", "cat cat cat", "cat cat cat cat cat cat", "dog dog dog dog dog dog"):
        draw(service, prompt, seed=1)
    assert len(memory) == 2
    assert counted(metrics, "cache_evictions_total") == {'{tier="memory"}': 2}


def test_what_adds_nothing_is_not_stored(cached, draw, metrics) -> None:
    service = cached()
    for seed in range(3):
        draw(service, seed=seed)
    assert len(service._cache._latents.memory) == 1
    assert counted(metrics, "cache_not_admitted_total") == {"": 2}


@pytest.mark.parametrize("stored", [False, True])
def test_scopes_that_nobody_uses_any_more_leave_nothing(calibrated, tables, metrics, stored: bool) -> None:
    """A scope holds the negative prompt, which strangers choose. 3,000 of them, under a budget of ten entries."""
    policy = Calibrated(Calibration(calibrated.prompt_map, cache_spec(), 0.99))
    cache = LatentCache(policy, 10 * (4 * 4 * 4 * 2 + 4), metrics)
    embeds, ids = np.ones((1, LENGTH, DIM), np.float32), np.zeros((1, LENGTH), np.int64)

    def visit(number: int) -> None:
        table = tables.table("plain", 2)
        trajectory = Trajectory(request=number, index=0, seed=number, shape=(4, 4, 4), table=table, guidance_scale=1.0)
        trajectory.begin({})
        visit = cache.visit(f"scope {number}", embeds, ids, [trajectory])
        while stored and trajectory.steps_left:
            trajectory.advance(np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.float32))
            cache.passed(visit, trajectory)
        cache.finished(visit, trajectory, f"origin {number}")

    for number in range(100):
        visit(number)
    gc.collect()
    objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
    for number in range(100, 3100):
        visit(number)
    gc.collect()
    assert len(cache.memory) == (10 if stored else 0)
    assert len(gc.get_objects()) - objects < 300
    assert sys.getallocatedblocks() - blocks < 3000


# ---- tiers --------------------------------------------------------------------------------------------------------


def test_what_has_left_memory_comes_from_disk_while_steps_go_on(cached, admit, draw) -> None:
    service = cached()
    latents = service._cache._latents
    draw(service, seed=1)
    latents.settle()
    slot = next(iter(latents.memory._origins.values())).slots[STEPS]
    latents.memory._evict(next(iter(latents.memory._entries)))
    assert slot.entry is None
    late = admit(service, seed=2, num_inference_steps=STEPS, cache="on")
    service.loop.turn()  # begins from noise, and asks for the entry
    latents.settle()
    while service.loop.turn():
        pass
    assert late.answer.result(PATIENCE).cache.model_dump() == {"hit": True, "steps_skipped": 4, "similarity": 1.0}
    assert slot.entry is not None


def test_a_late_entry_gives_the_image_of_one_in_time(cached, admit, draw, store) -> None:
    service = cached()
    draw(service, seed=1, id="donor", sampler="noisy")
    _, in_time = draw(service, seed=2, sampler="noisy")
    latents = service._cache._latents
    latents.settle()
    latents.memory._evict(next(iter(latents.memory._entries)))
    service._cache._repeats.forget(
        next(key for key, image in service._cache._repeats._images.items() if image.seed == 2)
    )
    late = admit(service, seed=2, num_inference_steps=STEPS, sampler="noisy", cache="on")
    for _ in range(2):
        service.loop.turn()
    latents.settle()
    while service.loop.turn():
        pass
    result = late.answer.result(PATIENCE)
    assert 0 < result.cache.steps_skipped < 5
    assert store.objects[result.images[0].key] == in_time


def test_a_restart_begins_with_what_is_on_disk(cached, draw) -> None:
    before = cached()
    draw(before, seed=1)
    before._cache._latents.settle()
    before.stop()
    after = cached()
    after._cache._latents.warm()
    result, _ = draw(after, seed=2)
    assert result.cache.steps_skipped == 5


def test_a_new_replica_begins_with_what_the_store_has(cached, draw, tmp_path) -> None:
    one, two = cached(), cached(cache_dir=tmp_path / "two")
    draw(one, seed=1)
    one._cache.sharing.exchange()
    two._cache.sharing.exchange()
    result, _ = draw(two, seed=2)
    assert result.cache.steps_skipped == 5


# ---- the same request again -----------------------------------------------------------------------------------------


def test_the_same_request_is_answered_from_its_finished_image(cached, draw, engine, metrics) -> None:
    service = cached()
    first, image = draw(service, seed=1, id="first")
    calls = len(engine.calls), engine.encoded, engine.decoded
    second, again = draw(service, seed=1, id="second")
    assert (len(engine.calls), engine.encoded, engine.decoded) == calls
    assert image == again
    assert second.images[0].key == "images/second/0.png"
    assert second.images[0].sha256 == first.images[0].sha256
    assert second.cache.model_dump() == {"hit": True, "steps_skipped": STEPS, "similarity": 1.0}
    assert counted(metrics, "cache_repeats_total") == {"": 1}


def test_one_image_of_several_is_known_alone(cached, draw, store) -> None:
    service = cached()
    several, _ = draw(service, seed=40, num_images=3)
    alone, image = draw(service, seed=42)
    assert alone.cache.steps_skipped == STEPS
    assert store.objects[several.images[2].key] == image


@pytest.mark.parametrize("harm", ["deleted", "changed"])
def test_an_image_that_is_no_longer_what_it_was_is_drawn_again(cached, draw, store, admit, harm: str) -> None:
    service = cached(cache_deepest=0.0)
    _, image = draw(service, seed=1, id="first")
    if harm == "deleted":
        del store.objects["images/first/0.png"]
    else:
        store.objects["images/first/0.png"] = b"changed"
    again = admit(service, seed=1, id="again", num_inference_steps=STEPS, cache="on")
    service.admission.wait_for_arrivals()  # the copy failed and handed it over
    while service.loop.turn():
        pass
    result = again.answer.result(PATIENCE)
    assert store.objects[result.images[0].key] == image
    assert not result.cache.hit


def test_another_output_format_is_another_image(cached, draw) -> None:
    service = cached(cache_deepest=0.0)
    draw(service, seed=1)
    result, _ = draw(service, seed=1, output_format="jpeg")
    assert not result.cache.hit


def test_without_a_calibration_only_finished_images_are_reused(build_service, draw) -> None:
    service = build_service()
    draw(service, seed=1)
    similar, _ = draw(service, seed=2)
    same, _ = draw(service, seed=1)
    assert (similar.cache.hit, same.cache.hit) == (False, True)


def test_a_policy_that_needs_a_calibration_says_so(build_service) -> None:
    with pytest.raises(EngineIncompatible, match="--cache"):
        build_service(cache="darkroom")


# ---- faults of the cache itself -------------------------------------------------------------------------------------


def test_a_fault_of_the_cache_is_nobodys_failure(cached, draw, monkeypatch) -> None:
    service = cached()
    draw(service, seed=1)

    def broken(*_: object) -> None:
        raise RuntimeError("cache")

    for hook in ("nearest", "add"):
        with monkeypatch.context() as patched:
            patched.setattr(service._cache._latents.memory, hook, broken)
            result, _ = draw(service, seed=2 if hook == "nearest" else 3)
            assert result.images


def test_latents_of_another_shape_are_a_miss(cached, draw, metrics) -> None:
    service = cached()
    latents = service._cache._latents
    draw(service, seed=1)
    ((name, _),) = latents.memory._entries.values()
    slot = latents.memory.get(name, STEPS)
    slot.entry = Entry(**{**vars(slot.entry), "latents": np.zeros((4, 2, 2), np.float16)})
    result, _ = draw(service, seed=2)
    assert not result.cache.hit
    assert counted(metrics, "cache_damaged_total") == {"": 1}


def test_a_disk_slower_than_the_engine_gets_no_more_than_it_can_take(cached, draw, monkeypatch) -> None:
    service = cached()
    monkeypatch.setattr("runtime.cache.latent_cache._MOST_WRITING", 0)
    draw(service, seed=1)
    service._cache._latents.settle()
    assert service._cache._latents._disk.nbytes == 0
