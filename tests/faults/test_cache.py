"""Faults of the cache; each test is named after its row of the table of faults. Real engines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from darkroom.contracts import GenerationRequest, GenerationResult, Invocation
from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import LoadedBundle, fetch_bundle, load_bundle
from runtime.bundles.hardware import this_machine
from runtime.cache.disk import LatentDisk
from runtime.cache.entry import Damaged, unpack
from runtime.cache.eviction import saved_work
from runtime.cache.latent_cache import LatentCache
from runtime.cache.shared import SharedLog
from runtime.config import RuntimeConfig
from runtime.metrics import Metrics
from runtime.serving.service import Service
from tests.fakes.calibration import SKIPPED, calibrated

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def bundle(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    fetched = fetch_bundle(
        DirectoryStore(tiny_store), "tiny", None, "openvino-fp32", this_machine(), tmp_path_factory.mktemp("bundle")
    )
    return calibrated(load_bundle(fetched, 1))


@pytest.fixture
def serve(bundle: LoadedBundle, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    built: list[Service] = []

    def serve(**settings: Any) -> Service:
        config = RuntimeConfig(**{"cache_dir": tmp_path, "threads": 1, **settings})
        built.append(Service(bundle, config, DirectoryStore(tmp_path / "store"), Metrics(), time.monotonic, time.sleep))
        return built[-1]

    yield serve
    for service in built:
        service.stop()


def latents(service: Service) -> LatentCache:
    assert service._cache is not None
    assert service._cache._latents is not None
    return service._cache._latents


def draw(service: Service, seed: int, tenant: str = "alice", **fields: Any) -> GenerationResult:
    request = GenerationRequest(
        **{"prompt": "a red cat", "num_inference_steps": 10, "seed": seed, "cache": "on", **fields}
    )
    generation = service.admit(Invocation(id=f"{tenant}-{seed}", tenant=tenant, request=request), None)
    while service.loop.turn():
        pass
    return generation.answer.result(60)


def remembered_on_disk(serve: Callable[..., Service]) -> Path:
    """A cache that drew one image and ended; where its entries are."""
    service = serve()
    draw(service, seed=1)
    latents(service).settle()
    disk = latents(service)._disk
    assert disk is not None
    service.stop()
    assert disk._place is not None
    assert len(list(disk._place.glob("*.latents"))) == 1
    return disk._place


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))


@pytest.mark.parametrize(
    "harm", [flip, lambda path: path.write_bytes(path.read_bytes()[:-7]), lambda path: path.unlink()]
)
@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_row_83_a_cache_entry_flipped_or_truncated(serve, harm, when) -> None:
    place = remembered_on_disk(serve)
    service = serve()
    if when == "while it runs":
        latents(service).warm()
        for entry in list(latents(service).memory._entries):
            latents(service).memory._evict(entry)  # to be read again from the disk
    for path in place.glob("*.latents"):
        harm(path)
    if when == "before the start":
        latents(service).warm()
    request = GenerationRequest(prompt="a red cat", num_inference_steps=10, seed=2, cache="on")
    generation = service.admit(Invocation(id="after", tenant="alice", request=request), None)
    service.loop.turn()
    latents(service).settle()
    while service.loop.turn():
        pass
    assert not generation.answer.result(60).cache.hit
    draw(service, seed=3)
    assert draw(service, seed=4).cache.steps_skipped == SKIPPED  # from what is whole again


def test_row_83_a_cache_entry_that_is_slow(serve) -> None:
    place = remembered_on_disk(serve)
    assert place
    service, stuck = serve(), threading.Event()
    latents(service).warm()
    for entry in list(latents(service).memory._entries):
        latents(service).memory._evict(entry)
    latents(service)._pool.submit(stuck.wait, 60)  # what the disk is doing before it
    try:
        assert not draw(service, seed=2).cache.hit
    finally:
        stuck.set()


def test_row_84_another_tenant_probes_the_cache(serve) -> None:
    service = serve()
    draw(service, seed=1)
    assert draw(service, seed=2).cache.hit
    assert not draw(service, seed=3, tenant="mallory").cache.hit
    assert not draw(service, seed=1, tenant="trudy").cache.hit  # not even the very same image


@pytest.mark.parametrize(
    "change",
    [
        {"width": 96},
        {"height": 96},
        {"sampler": "euler"},
        {"num_inference_steps": 11},
        {"guidance_scale": 1.0},
        {"negative_prompt": "a dog"},
    ],
)
def test_row_85_shape_or_model_collision_in_the_cache(serve, change) -> None:
    service = serve()
    draw(service, seed=1)
    assert not draw(service, seed=2, **change).cache.hit


def test_row_85_another_version_or_target_has_its_own_keys(serve, bundle, tmp_path) -> None:
    draw(serve(), seed=1)
    other = bundle.manifest.model_copy(update={"version": "f" * 16})
    target = bundle.target.model_copy(update={"name": "other"})
    for served in (replace(bundle, manifest=other), replace(bundle, target=target)):
        config = RuntimeConfig(cache_dir=tmp_path, threads=1)
        service = Service(served, config, DirectoryStore(tmp_path / "store"), Metrics(), time.monotonic, time.sleep)
        latents(service).warm()
        assert service._cache is not None
        service._cache.sharing.exchange()
        same = draw(service, seed=1)  # neither its finished image nor its latents
        service.stop()
        assert not same.cache.hit


def test_kill_9_while_entries_are_written(tmp_path: Path) -> None:
    for run in range(5):
        process = subprocess.Popen(
            [sys.executable, str(HERE / "cache_kill.py"), str(tmp_path), str(run)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        for _ in range(15 + 4 * run):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    disk = LatentDisk(tmp_path / "disk", "v", 1 << 20, saved_work())
    found = list(disk.entries())
    assert len(found) >= 5  # each is whole: its checksum held
    assert not list((tmp_path / "disk").rglob("*.partial"))
    disk.close()
    log, whole = SharedLog(DirectoryStore(tmp_path / "store"), "m", "v", "reader", 1 << 30), 0
    for record in log.news():
        try:
            whole += unpack(record).scope == "scope"
        except Damaged:
            pytest.fail("a store showed a part of a segment")
    assert whole >= 15


def test_a_full_disk_is_a_smaller_cache(tiny_store: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, str(HERE / "cache_full.py"), str(tiny_store), str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    found = json.loads((tmp_path / "told.json").read_text())
    assert [answer["steps_skipped"] for answer in found["answers"]] == [0, SKIPPED]  # from memory
    assert found["failures"] >= 1
    assert found["files"] == []
