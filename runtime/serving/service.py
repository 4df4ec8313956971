"""One loaded bundle being served: makes generations of requests, and results of finished generations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from darkroom.contracts import (
    MAX_SEED,
    CacheReport,
    GeneratedImage,
    GenerationRequest,
    GenerationResult,
    GenerationWarning,
    Invocation,
    StoredImage,
)
from darkroom.image_use import steps_run
from darkroom.resolving import resolve
from darkroom.storage import ObjectStore
from runtime.bundles.bundle import LoadedBundle
from runtime.bundles.tokenizer import Tokens
from runtime.config import RuntimeConfig
from runtime.denoising.autoencoder import tile_beyond
from runtime.denoising.batcher import Batcher
from runtime.denoising.control import acting_steps
from runtime.denoising.runner import Runner
from runtime.denoising.trajectory import AppliedControl, Trajectory
from runtime.metrics import Metrics
from runtime.pictures.inputs import Inputs, read_inputs
from runtime.pictures.preview import Previewer
from runtime.pictures.sources import InputImages
from runtime.serving.admission import Admission
from runtime.serving.generation import NO_INPUTS, Generation, Listener
from runtime.serving.loop import Loop
from runtime.serving.request_cache import open_cache
from runtime.serving.turns import ALONE, Seat
from runtime.serving.unsent import Unsent
from runtime.serving.uploads import Uploader

_WARM_STEPS = 2
_UNSENT_BYTES = 64 << 20


class Service:
    """Serves one loaded bundle. Call `warm` and `loop.run` on the engine thread; everything else from any thread."""

    def __init__(
        self,
        bundle: LoadedBundle,
        config: RuntimeConfig,
        store: ObjectStore,
        metrics: Metrics,
        clock: Callable[[], float],
        wait: Callable[[float], object],
        seat: Seat = ALONE,
    ) -> None:
        """`clock` gives monotonic seconds; `wait` is how an upload waits before it is tried again; `seat` is where the
        loop waits for its turn.
        """
        self._bundle = bundle
        self._clock = clock
        self._metrics = metrics
        self._arrivals = itertools.count()
        manifest = bundle.manifest
        self._runner = Runner(
            bundle.engine,
            manifest,
            bundle.tokenizer.encode("").ids,
            tile_beyond=tile_beyond(config.tile_beyond, bundle.target),
        )
        self._images = InputImages.of(config, store)
        self._cache = open_cache(config, bundle, store, metrics)
        self._unsent = Unsent(_UNSENT_BYTES)
        self._uploader = Uploader(store, metrics, self._unsent, self._finish, wait)
        self._fallback = _fallback(bundle)
        metrics.fallback.set(len(self._fallback))
        self.previewer = Previewer(manifest.latents)
        self.admission = Admission(config.max_queue, metrics, clock)
        self.loop = Loop(
            self.admission,
            batcher(config, bundle),
            self._runner,
            self._uploader.upload,
            metrics,
            self._cache,
            hung_seconds=config.hung_seconds,
            clock=clock,
            seat=seat,
        )

    def warm(self) -> None:
        """Make one image and drop it: what happens only at a first use then happens before the first request.

        Raises: DarkroomError, as a generation may fail.
        """
        defaults = self._bundle.manifest.defaults
        steps = min(_WARM_STEPS, defaults.num_inference_steps)
        request = GenerationRequest(prompt="", num_inference_steps=steps, seed=0)
        generation = self._generation(Invocation(id="warm", request=request), None)
        (trajectory,) = generation.trajectories
        nothing = np.zeros((3, defaults.height, defaults.width), np.float32)
        controlnets = self._bundle.manifest.control
        trajectory.controls = tuple(
            AppliedControl(net.component, nothing, 1.0, range(1)) for net in (controlnets.nets if controlnets else ())
        )
        prompt, negative = (tokens.ids for tokens in generation.prompts)
        size_and_guidance = defaults.width, defaults.height, defaults.guidance_scale
        trajectory.begin(self._runner.encode(prompt, negative if trajectory.guided else None, *size_and_guidance))
        while trajectory.steps_left:
            for error in self._runner.step([trajectory]).failures.values():
                raise error
        self._runner.decode(trajectory.latents)

    def admit(self, invocation: Invocation, listener: Listener | None) -> Generation:
        """Check a request against the bundle and accept it.

        Where an earlier attempt of the same invocation made its images but could not store them, those are stored now.
        The call blocks while the request's own images are fetched.

        Raises: as `darkroom.bundles.manifest.resolve`, `InputImages` and `Admission.submit` do.
        """
        generation = self._generation(invocation, listener)
        images = self._unsent.find(generation)
        known = self._cache.repeated(generation) if self._cache is not None else []
        if images is None and known:
            self.admission.hold(generation)
            self._uploader.copy(generation, known, self._repeated, self._not_repeated)
        elif images is None:
            self.admission.submit(generation)
        else:
            generation.skip_engine()
            self.admission.hold(generation)
            self._uploader.upload(generation, images)
        return generation

    def stop(self) -> None:
        """Let the loop end after its step, and start no further upload."""
        self.admission.stop()
        self._uploader.close()
        if self._cache is not None:
            self._cache.close()

    def share(self) -> None:
        """Begin to take what was remembered before and elsewhere, in the background."""
        if self._cache is not None:
            self._cache.sharing.start()

    def identity(self) -> dict[str, str]:
        """What is served: model, version and target."""
        manifest = self._bundle.manifest
        return {"model": manifest.model, "version": manifest.version, "target": self._bundle.target.name}

    def _generation(self, invocation: Invocation, listener: Listener | None) -> Generation:
        manifest, now = self._bundle.manifest, self._clock()
        request = resolve(invocation.request, manifest)
        inputs = NO_INPUTS
        if request.brings_images:
            self.admission.check()
            inputs = read_inputs(self._images, request, invocation.tenant, manifest)
            request = request.model_copy(update={"width": inputs.width, "height": inputs.height})
        tokens = self._bundle.tokenizer.encode(request.prompt)
        negative = self._bundle.tokenizer.encode(request.negative_prompt)
        return Generation(
            invocation.id,
            invocation.tenant,
            request,
            self._trajectories(request, inputs),
            (tokens, negative),
            inputs=inputs,
            accepted=now,
            deadline=None if invocation.deadline_seconds is None else now + invocation.deadline_seconds,
            warnings=[
                *self._fallback,
                *_truncation("prompt", tokens),
                *_truncation("negative_prompt", negative),
                *inputs.warnings,
            ],
            listener=listener,
        )

    def _trajectories(self, request: GenerationRequest, inputs: Inputs) -> list[Trajectory]:
        """One for each image of a resolved request; image `i` is made from seed `seed + i`."""
        latents = self._bundle.manifest.latents
        width, height, seed, steps = request.width, request.height, request.seed, request.num_inference_steps
        sampler, guidance_scale = request.sampler, request.guidance_scale
        if not (width and height and steps and sampler) or seed is None or guidance_scale is None:
            raise ValueError("the request has not been resolved")
        shape = (latents.channels, height // latents.downscale, width // latents.downscale)
        table = self._bundle.samplers.table(sampler, steps)
        entry = steps - steps_run(steps, request.strength or 1.0)
        controls = self._controls(request, inputs, entry, steps)
        arrival = next(self._arrivals)
        return [
            Trajectory(
                request=arrival,
                index=index,
                seed=(seed + index) % (MAX_SEED + 1),
                shape=shape,
                table=table,
                guidance_scale=1.0 if self._bundle.manifest.guidance_is_an_input else guidance_scale,
                step=entry,
                controls=controls,
            )
            for index in range(request.num_images)
        ]

    def _controls(self, request: GenerationRequest, inputs: Inputs, entry: int, steps: int) -> list[AppliedControl]:
        spec = self._bundle.manifest.control
        components = {net.type: net.component for net in spec.nets} if spec else {}
        return [
            AppliedControl(
                components[control.type or ""],
                np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(255),
                control.scale,
                acting_steps(control.start, control.end, entry, steps),
            )
            for control, pixels in zip(request.control or (), inputs.controls, strict=True)
        ]

    def _repeated(self, generation: Generation, images: Sequence[GeneratedImage]) -> None:
        """Answer with copies of finished images; called by the uploader."""
        generation.skip_engine()
        skipped = sum(trajectory.table.steps for trajectory in generation.trajectories)
        generation.cached = CacheReport(hit=True, steps_skipped=skipped, similarity=1.0)
        self._metrics.cache_repeats.inc(len(images))
        self._finish(generation, list(images))

    def _not_repeated(self, generation: Generation) -> None:
        """Draw it after all; called by the uploader."""
        if self._cache is not None:
            self._cache.not_repeated(generation)
        self.admission.hand_over(generation)

    def _finish(self, generation: Generation, stored: list[StoredImage]) -> None:
        """Answer with the stored images; called by the uploader."""
        manifest = self._bundle.manifest
        images = [image for image in stored if isinstance(image, GeneratedImage)]
        result = GenerationResult(
            images=images,
            control_images=stored[len(images) :],
            seed=images[0].seed,
            model=manifest.model,
            version=manifest.version,
            target=self._bundle.target.name,
            timings=generation.stopwatch.timings(self._clock()),
            cache=generation.visit.report() if generation.visit else generation.cached,
            warnings=generation.warnings,
        )
        self._unsent.forget(generation)
        if self._cache is not None:
            self._cache.answered(generation, images)
        if generation.succeed(result):
            self._metrics.images.inc(len(images))


def batcher(config: RuntimeConfig, bundle: LoadedBundle) -> Batcher:
    """No call has more rows than the operator allows, the engine takes, or the bundle's row cap says. Where the
    bundle has no row cap for this machine, the batcher learns one.
    """
    profile, row_cap = bundle.target.profile, bundle.row_cap
    engine_rows = config.max_rows if profile is None else profile.rows[-1]
    most = min(config.max_rows, engine_rows, row_cap or engine_rows)
    return Batcher(most, config.ageing_steps, strict=config.strict, learns=row_cap is None)


def _fallback(bundle: LoadedBundle) -> list[GenerationWarning]:
    if bundle.preferred is None:
        return []
    used, preferred = bundle.target.name, bundle.preferred.name
    detail = f"This machine cannot run {preferred}, the model's preferred engine; {used} is used instead."
    return [GenerationWarning(code="target_fallback", detail=detail)]


def _truncation(field: str, tokens: Tokens) -> list[GenerationWarning]:
    if not tokens.dropped:
        return []
    detail = f"The last {tokens.dropped} tokens of {field} did not fit into {tokens.ids.shape[1]} and were left out."
    return [GenerationWarning(code="prompt_truncated", detail=detail)]
