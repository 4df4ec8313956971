"""The runtime's own parts, in process and on one thread: what an engine can do without HTTP around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import ROOT
from darkroom.storage import open_store
from runtime import config
from runtime.bundles.bundle import fetch_bundle, kept_graphs, load_bundle, static_shapes
from runtime.bundles.hardware import this_machine
from runtime.bundles.tokenizer import Tokens
from runtime.denoising.control import AppliedControl
from runtime.denoising.runner import Runner
from runtime.denoising.trajectory import Trajectory
from runtime.engines import Engine, OnCpu, open_engine

BUNDLE, CHECKPOINT = ROOT / "crayon" / "bundle", ROOT / "crayon" / "checkpoint"
_CACHE = Path(".darkroom/cache")


class InProcess:
    """A bundle's target with its runner."""

    def __init__(
        self,
        target: str,
        threads: int = 2,
        store: Path = BUNDLE,
        model: str = "crayon",
        *,
        size: int | None = None,
        max_rows: int | None = None,
    ) -> None:
        """As a runtime with default settings would, but for `max_rows`, and as if the bundle's default size were `size`
        pixels a side.
        """
        as_served = config.load({})
        machine = this_machine()
        bundle = fetch_bundle(open_store(str(store)), model, None, target, machine, _CACHE)
        if size is not None:
            defaults = bundle.manifest.defaults.model_copy(update={"width": size, "height": size})
            bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"defaults": defaults}))
        self.bundle = bundle
        kept = kept_graphs(bundle, machine, _CACHE, as_served.compiled_mb)
        static = static_shapes(bundle, threads, max_rows or as_served.max_rows, as_served.static_mb)
        self.loaded = load_bundle(bundle, threads, partial(open_engine, on_cpu=OnCpu(kept, static)))
        self.manifest = self.loaded.manifest
        self.engine = self.loaded.engine
        self.use(self.engine)

    def use(self, engine: Engine) -> None:
        """Run on this engine from now on, e.g. one wrapped to time its calls."""
        self.runner = Runner(engine, self.manifest, self.tokens("").ids)

    def tokens(self, prompt: str) -> Tokens:
        return self.loaded.tokenizer.encode(prompt)

    def waiting(
        self,
        number: int,
        steps: int,
        guidance: float = 4.0,
        size: int | None = None,
        controls: Sequence[AppliedControl] = (),
    ) -> Trajectory:
        """One image that has not begun, of request and seed `number`; of `size` pixels a side or the default size."""
        spec, defaults = self.manifest.latents, self.manifest.defaults
        height, width = size or defaults.height, size or defaults.width
        return Trajectory(
            request=number,
            index=0,
            seed=number,
            shape=(spec.channels, height // spec.downscale, width // spec.downscale),
            table=self.loaded.samplers.table("ddim", steps),
            guidance_scale=guidance,
            controls=controls,
        )

    def trajectory(
        self,
        prompt: str,
        seed: int,
        steps: int,
        guidance: float = 4.0,
        size: int | None = None,
        controls: Sequence[AppliedControl] = (),
    ) -> Trajectory:
        """One image, begun."""
        trajectory = self.waiting(seed, steps, guidance, size, controls)
        downscale = self.manifest.latents.downscale
        height, width = (side * downscale for side in trajectory.size)
        negative = self.tokens("").ids if trajectory.guided else None
        trajectory.begin(self.runner.encode(self.tokens(prompt).ids, negative, width, height, guidance))
        return trajectory

    def step(self, batch: Sequence[Trajectory]) -> None:
        """One step of all together. Raises what made one of them fail."""
        for error in self.runner.step(batch).failures.values():
            raise error

    def stepping(self, batch: Sequence[Trajectory], at: Sequence[int]) -> Callable[[], object]:
        """The same call again and again: each of the batch at its step of `at`."""

        def again() -> None:
            for trajectory, index in zip(batch, at, strict=True):
                trajectory.step = index
            self.step(batch)

        return again

    def finish(self, trajectories: Sequence[Trajectory]) -> NDArray[np.uint8]:
        """Step all together to the end and decode each: uint8 [n, H, W, 3]."""
        while live := [trajectory for trajectory in trajectories if trajectory.steps_left]:
            self.step(live)
        return np.stack([self.runner.decode(trajectory.latents) for trajectory in trajectories])

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], steps: int = 25) -> NDArray[np.uint8]:
        """Images for prompts, four at a time; the judge's `Generate`."""
        trajectories = [self.trajectory(*image, steps) for image in zip(prompts, seeds, strict=True)]
        pictures = [self.finish(trajectories[start : start + 4]) for start in range(0, len(trajectories), 4)]
        return np.concatenate(pictures)


class TimedEngine:
    """An engine that keeps when each of its calls began and ended: seconds of the monotonic clock."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.calls: list[tuple[float, float]] = []

    @property
    def seconds(self) -> float:
        """Spent in all calls."""
        return sum(ended - begun for begun, ended in self.calls)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._engine, name)

        def timed(*arguments: Any, **conditioning: Any) -> Any:
            begun = time.monotonic()
            try:
                return call(*arguments, **conditioning)
            finally:
                self.calls.append((begun, time.monotonic()))

        return timed
