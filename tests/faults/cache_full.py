"""A runtime whose cache may write no file larger than a limit: `cache_full.py BUNDLES FOLDER`; see `told.json`."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from darkroom.contracts import GenerationRequest, Invocation
from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import fetch_bundle, load_bundle
from runtime.bundles.hardware import this_machine
from runtime.config import RuntimeConfig
from runtime.metrics import Metrics
from runtime.serving.service import Service
from tests.fakes.calibration import calibrated
from tests.unit.runtime.conftest import MemoryStore

LIMIT = 500  # an entry has a kilobyte; images and segments are in a store of their own


def main(bundles: Path, folder: Path) -> None:
    bundle = fetch_bundle(DirectoryStore(bundles), "tiny", None, "openvino-fp32", this_machine(), folder)
    loaded, metrics = calibrated(load_bundle(bundle, 1)), Metrics()
    config = RuntimeConfig(cache_dir=folder, threads=1)
    service = Service(loaded, config, MemoryStore(), metrics, time.monotonic, time.sleep)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    answers = []
    for seed in range(2):
        request = GenerationRequest(prompt="a red cat", seed=seed, num_inference_steps=10, cache="on")
        generation = service.admit(Invocation(id=f"request-{seed}", request=request), None)
        while service.loop.turn():
            pass
        answers.append(generation.answer.result(60).cache.model_dump())
        assert service._cache is not None
        assert service._cache._latents is not None
        service._cache._latents.settle()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    lines = metrics.exposition().decode().splitlines()
    failures = next(line for line in lines if line.startswith('darkroom_runtime_cache_failures_total{tier="disk"}'))
    files = [path.name for path in (folder / "latents").rglob("*") if path.is_file() and path.name != "lock"]
    told = {"answers": answers, "failures": float(failures.split()[-1]), "files": files}
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
