"""Requests that arrive at random moments, answered by the runtime's own service: with the cache and without."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median

from benchmarks.cache_traces import Asked
from benchmarks.engine import InProcess
from darkroom.contracts import GenerationRequest, Invocation
from darkroom.storage.directory import DirectoryStore
from runtime import logs
from runtime.config import RuntimeConfig
from runtime.metrics import Metrics
from runtime.service import Service

_REQUESTS, _WARM = 300, 100  # the first ones fill the cache and are not counted
_LOAD = 0.7  # of what one image after another would take


def poisson(engine: InProcess, asked: Sequence[Asked], quality: float) -> tuple[dict[str, float], float]:
    """Mean seconds from arrival to answer by policy, and the share of rows that the cache saved."""
    alone = []
    for one in asked[:8]:
        started = time.perf_counter()
        engine.generate([one.prompt], [one.seed])
        alone.append(time.perf_counter() - started)
    gap = median(alone) / _LOAD
    off, _ = _served(
        engine, asked[:_REQUESTS], gap, RuntimeConfig.model_validate({"cache": "off", "max_queue": _REQUESTS})
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = {"cache_quality": quality, "cache_dir": folder, "cache_store_mb": 0, "max_queue": _REQUESTS}
        ours, rows = _served(engine, asked[:_REQUESTS], gap, RuntimeConfig.model_validate(settings))
    return {"off": off, "darkroom": ours}, rows


def _answered(seconds: list[float], due: float, _: object) -> None:
    seconds.append(time.monotonic() - due)


def _served(engine: InProcess, asked: Sequence[Asked], gap: float, config: RuntimeConfig) -> tuple[float, float]:
    logs.configure("warning")
    arrivals = random.Random("arrivals")
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        service = Service(engine.loaded, config, DirectoryStore(Path(folder)), Metrics(), time.monotonic, time.sleep)
        service.warm()
        loop = threading.Thread(target=service.loop.run)
        loop.start()
        due, waiting = time.monotonic(), []
        for number, one in enumerate(asked):
            due += arrivals.expovariate(1 / gap)
            time.sleep(max(0.0, due - time.monotonic()))
            request = GenerationRequest(
                prompt=one.prompt, seed=one.seed, cache="on" if config.cache != "off" else "off"
            )
            generation = service.admit(Invocation(id=f"request-{number}", request=request), None)
            if number >= _WARM:
                generation.answer.add_done_callback(partial(_answered, seconds, due))
            waiting.append(generation)
        answers = [generation.answer.result(600) for generation in waiting][_WARM:]
        service.stop()
        loop.join()
    steps = engine.manifest.defaults.num_inference_steps
    return mean(seconds), mean(answer.cache.steps_skipped for answer in answers) / steps
