"""Encode, one step for a batch of rows, decode: executes what the batcher decided, and keeps failures apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from darkroom.bundles.manifest import EngineManifest
from darkroom.errors import DarkroomError, GenerationFailed, GenerationInvalid, OutOfMemory
from runtime.arrays import Floats, Ids, Pixels
from runtime.denoising.autoencoder import Autoencoder
from runtime.denoising.conditioning import Conditioning
from runtime.denoising.control import ControlNets
from runtime.denoising.step_arrays import BatchArrays, StepArrays
from runtime.denoising.trajectory import Trajectory
from runtime.engines import Engine
from runtime.pictures.encode import from_pixels, to_pixels


@dataclass
class StepOutcome:
    """Who failed in a step and why; all others advanced. `largest_refused` rows were more than memory holds."""

    failures: dict[Trajectory, DarkroomError] = field(default_factory=dict)
    largest_refused: int = 0
    causes: list[Exception] = field(default_factory=list)

    def add(self, other: StepOutcome) -> None:
        self.failures |= other.failures
        self.largest_refused = max(self.largest_refused, other.largest_refused)
        self.causes += other.causes


class Runner:
    """Runs an engine on trajectories. Every method is called from the engine's own thread."""

    def __init__(self, engine: Engine, manifest: EngineManifest, empty_prompt: Ids, tile_beyond: int = 0) -> None:
        """`empty_prompt` is the empty prompt's token ids, int64 [1, L], whose embedding is kept; `tile_beyond` as
        `Autoencoder` takes it.
        """
        self._engine = engine
        self._controlnets = ControlNets(engine, manifest.control) if manifest.control else None
        self._autoencoder = Autoencoder(engine, manifest.latents, tile_beyond)
        self._conditioning = Conditioning(engine, manifest, empty_prompt)
        self._standing: BatchArrays | None = None  # of the batch stepped last

    def encode(
        self, prompt: Ids, negative: Ids | None, width: int, height: int, guidance_scale: float
    ) -> dict[str, Floats]:
        """Token ids, int64 [1, L], of the prompt and, with guidance, of the negative one, and the size in pixels ->
        all that a trajectory's rows tell the UNet, see `Conditioning.rows`.

        Raises: OutOfMemory, GenerationFailed, GenerationInvalid.
        """
        with _told_apart():
            return self._conditioning.rows(prompt, negative, width, height, guidance_scale)

    def step(self, batch: Sequence[Trajectory]) -> StepOutcome:
        """Advance every trajectory of the batch (of one size) by its own next step.

        Where the engine fails, each trajectory is tried alone, so that only the one at fault fails. Where memory runs
        out, the batch is halved until it fits. Where one's latents are no longer finite, it alone fails.
        """
        try:
            if self._standing is None or self._standing.batch != tuple(batch):
                self._standing = BatchArrays(batch)
            arrays = StepArrays.of(self._standing)
            output = self._predict(arrays)
        except MemoryError as cause:
            return self._after_out_of_memory(batch, cause)
        except Exception as cause:
            return self._after_failure(batch, cause)
        return self._advance(arrays, output)

    def decode(self, latents: Floats) -> Pixels:
        """float32 [C, h, w] -> uint8 [H, W, 3]. Raises: OutOfMemory, GenerationFailed, GenerationInvalid."""
        with _told_apart():
            image = self._autoencoder.decode(latents)
        if not np.isfinite(image).all():
            raise GenerationInvalid
        return to_pixels(image)

    def encode_image(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """uint8 [H, W, 3] -> mean and standard deviation of latents, float32 [C, h, w], scaled as the UNet knows them.

        Raises: OutOfMemory, GenerationFailed, GenerationInvalid.
        """
        with _told_apart():
            mean, std = self._autoencoder.encode(from_pixels(pixels))
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise GenerationInvalid
        return mean, std

    def _predict(self, arrays: StepArrays) -> Floats:
        """The UNet's output, float32 [rows, C, h, w]."""
        standing, conditioning = arrays.standing, arrays.standing.conditioning
        if self._controlnets is not None:
            found = self._controlnets.residuals(standing.batch, arrays.rows, arrays.timesteps, conditioning)
            conditioning = conditioning | found
        return self._engine.predict(arrays.rows, arrays.timesteps, **conditioning)

    def _advance(self, arrays: StepArrays, output: Floats) -> StepOutcome:
        with np.errstate(all="ignore"):  # the outcome is looked at
            latents, denoised = both = arrays.advance(output)
        finite = np.logical_and.reduce(np.isfinite(both), axis=(0, 2, 3, 4))
        outcome = StepOutcome()
        for row, trajectory in enumerate(arrays.standing.batch):
            if finite[row]:
                trajectory.advance(latents[row], denoised[row])
            else:
                outcome.failures[trajectory] = GenerationInvalid()
        return outcome

    def _after_out_of_memory(self, batch: Sequence[Trajectory], cause: Exception) -> StepOutcome:
        rows = sum(trajectory.rows for trajectory in batch)
        if len(batch) == 1:
            return StepOutcome({batch[0]: OutOfMemory()}, rows, [cause])
        outcome = StepOutcome(largest_refused=rows, causes=[cause])
        half = len(batch) // 2
        outcome.add(self.step(batch[:half]))
        outcome.add(self.step(batch[half:]))
        return outcome

    def _after_failure(self, batch: Sequence[Trajectory], cause: Exception) -> StepOutcome:
        if len(batch) == 1:
            return StepOutcome({batch[0]: GenerationFailed()}, causes=[cause])
        outcome = StepOutcome(causes=[cause])
        for trajectory in batch:
            outcome.add(self.step([trajectory]))
        return outcome


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except DarkroomError:
        raise
    except MemoryError:
        raise OutOfMemory from None
    except Exception as failure:
        raise GenerationFailed from failure
