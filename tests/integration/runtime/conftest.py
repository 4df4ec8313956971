"""The tiny bundle, loaded with its real engines, and what it takes to generate with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from darkroom.contracts import GenerationRequest, Invocation
from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import LoadedBundle, fetch_bundle, load_bundle
from runtime.bundles.hardware import this_machine
from runtime.config import RuntimeConfig
from runtime.metrics import Metrics
from runtime.serving.generation import Generation
from runtime.serving.service import Service

THREADS = 1


@pytest.fixture(scope="session")
def load(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedBundle]:
    """Loads the tiny bundle for a target; once for all tests of a run."""
    store, cache = DirectoryStore(tiny_store), tmp_path_factory.mktemp("cache")
    machine, loaded = this_machine(), dict[str, LoadedBundle]()

    def load(target: str) -> LoadedBundle:
        if target == "openvino-bf16" and "avx512_bf16" not in machine.cpu_features:
            pytest.skip("this processor has no bfloat16")
        if target not in loaded:
            loaded[target] = load_bundle(fetch_bundle(store, "tiny", None, target, machine, cache), THREADS)
        return loaded[target]

    return load


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Services of a loaded bundle, which keep their images in a directory of their own."""
    built: list[Service] = []

    def serve(bundle: LoadedBundle, **settings: Any) -> Service:
        store = DirectoryStore(tmp_path / "images")
        built.append(
            Service(bundle, RuntimeConfig(**{"cache": "off", **settings}), store, Metrics(), time.monotonic, time.sleep)
        )
        return built[-1]

    yield serve
    for service in built:
        service.stop()


@pytest.fixture
def admit() -> Callable[..., Generation]:
    """Admits a request of seed 7 unless told otherwise."""
    numbers = iter(range(1000))

    def admit(service: Service, prompt: str = "a red cat", **fields: Any) -> Generation:
        request = GenerationRequest(prompt=prompt, **{"seed": 7, **fields})
        return service.admit(Invocation(id=f"request-{next(numbers)}", request=request), None)

    return admit
