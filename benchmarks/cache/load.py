"""Requests that arrive by chance, answered by the runtime's own service: with the cache and without, in turns."""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

from benchmarks.cache.traces import TraceRequest
from benchmarks.subjects.engine import InProcess
from darkroom import logs
from darkroom.contracts import GenerationRequest, Invocation, Timings
from darkroom.storage.directory import DirectoryStore
from runtime.config import RuntimeConfig
from runtime.metrics import Metrics
from runtime.serving.generation import Generation
from runtime.serving.service import Service

LOAD = 0.8  # of what is answered without the cache when the engine never rests, as in `make bench PART=arrivals`
_ROUNDS = 2
_REQUESTS, _WARM = 300, 100  # the first ones fill the cache and are not counted
_SATURATING = 40


@dataclass(frozen=True)
class LoadRound:
    """Of one round's requests: mean seconds from arrival to answer and the parts that the runtime tells of them, the
    share of rows that the cache saved, and the process's CPU-seconds for each.
    """

    seconds: float
    phases: dict[str, float]
    saved: float
    cpu: float


def poisson(engine: InProcess, requests: Sequence[TraceRequest], quality: float) -> dict[str, list[LoadRound]]:
    """By policy, "off" or "darkroom", what each round measured; each round has requests of its own, and a cache that
    begins empty.
    """
    logs.configure("warning", sys.stdout)
    off = RuntimeConfig.model_validate({"cache": "off", "max_queue": _REQUESTS})
    _serve(engine, requests[:4], 0.0, off)
    started = time.perf_counter()
    _serve(engine, requests[:_SATURATING], 0.0, off)
    gap = (time.perf_counter() - started) / _SATURATING / LOAD
    rounds: dict[str, list[LoadRound]] = {"off": [], "darkroom": []}
    for number in range(_ROUNDS):
        part = requests[number * _REQUESTS : (number + 1) * _REQUESTS]
        with tempfile.TemporaryDirectory() as folder:
            settings = {"cache_quality": quality, "cache_dir": folder, "cache_store_mb": 0, "max_queue": _REQUESTS}
            for name, config in (("off", off), ("darkroom", RuntimeConfig.model_validate(settings))):
                rounds[name].append(_serve(engine, part, gap, config, warm=_WARM))
                print(f"  round {number + 1} of {_ROUNDS}, {name}: mean {rounds[name][-1].seconds:.3f} s", flush=True)
    return rounds


def _serve(
    engine: InProcess, requests: Sequence[TraceRequest], gap: float, config: RuntimeConfig, warm: int = 0
) -> LoadRound:
    """`gap`: mean seconds between two arrivals."""
    arrivals = random.Random("arrivals")
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        service = Service(engine.loaded, config, DirectoryStore(Path(folder)), Metrics(), time.monotonic, time.sleep)
        service.warm()
        loop = threading.Thread(target=service.loop.run)
        loop.start()
        before = time.process_time()
        due, waiting = time.monotonic(), list[Generation]()
        for number, sent in enumerate(requests):
            due += arrivals.expovariate(1 / gap) if gap else 0.0
            time.sleep(max(0.0, due - time.monotonic()))
            request = GenerationRequest(
                prompt=sent.prompt, seed=sent.seed, cache="on" if config.cache != "off" else "off"
            )
            generation = service.admit(Invocation(id=f"request-{number}", request=request), None)
            if number >= warm:
                generation.answer.add_done_callback(partial(_answered, seconds, due))
            waiting.append(generation)
        answers = [generation.answer.result(600) for generation in waiting][warm:]
        cpu = (time.process_time() - before) / len(requests)
        service.stop()
        loop.join()
    steps = engine.manifest.defaults.num_inference_steps
    phases = {name: mean(getattr(answer.timings, name) for answer in answers) for name in Timings.model_fields}
    return LoadRound(mean(seconds), phases, mean(answer.cache.steps_skipped for answer in answers) / steps, cpu)


def _answered(seconds: list[float], due: float, _: object) -> None:
    seconds.append(time.monotonic() - due)
