"""What the cache means for a request: its scope, its visit to the latents, and finished images asked for again."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from darkroom.contracts import MAX_SEED, GeneratedImage
from darkroom.errors import EngineIncompatible
from darkroom.storage import ObjectStore
from runtime.arrays import Floats
from runtime.bundles.bundle import LoadedBundle
from runtime.cache.calibrated import Calibrated, Calibration
from runtime.cache.disk import LatentDisk
from runtime.cache.latent_cache import LatentCache
from runtime.cache.policy import Policy
from runtime.cache.repeats import Finished, Repeats
from runtime.cache.scope import cacheable, repeat, scope
from runtime.cache.shared import SharedLog
from runtime.cache.sharing import Sharing
from runtime.config import RuntimeConfig
from runtime.denoising.trajectory import Trajectory
from runtime.metrics import Metrics
from runtime.serving.generation import Generation

_MOST_REPEATS = 20_000
_MB = 1 << 20


class RequestCache:
    """Every method returns at once. `begun`, `boundary`, `stepped` and `decoded` are the engine thread's."""

    def __init__(
        self, bundle: str, latents: LatentCache | None, repeats: Repeats, sharing: Sharing, metrics: Metrics
    ) -> None:
        """`bundle` names what is served and how it is cached; without `latents` only repeats are answered."""
        self._bundle = bundle
        self._latents = latents
        self._repeats = repeats
        self._metrics = metrics
        self.sharing = sharing

    def begun(self, generation: Generation, prompt_embeds: Floats) -> None:
        """Its trajectories have begun, with the prompt's embedding, float32 [1, L, D]: let them enter later."""
        request, latents = generation.request, self._latents
        if latents is None or request.cache != "on" or not cacheable(request):
            return
        width, height, guidance_scale = request.width or 0, request.height or 0, request.guidance_scale or 0.0
        with self._optional(generation):
            if latents.policy.applies(width, height, guidance_scale):
                prompt, negative = generation.prompts
                key = scope(self._bundle, generation.tenant, request, negative.ids)
                generation.visit = latents.visit(key, prompt_embeds, prompt.ids, generation.trajectories)

    def boundary(self, generation: Generation) -> None:
        """A step boundary: what was on its way may have come."""
        if self._latents is not None and generation.visit is not None and generation.visit.coming:
            with self._optional(generation):
                self._latents.arrive(generation.visit)

    def stepped(self, generation: Generation, trajectory: Trajectory) -> None:
        if self._latents is not None and generation.visit is not None:
            with self._optional(generation):
                self._latents.passed(generation.visit, trajectory)

    def decoded(self, generation: Generation, trajectory: Trajectory) -> None:
        """Its image is good."""
        if self._latents is not None and generation.visit is not None:
            named = f"{generation.visit.scope} {generation.id} {trajectory.index}"
            with self._optional(generation):
                origin = hashlib.sha256(named.encode()).hexdigest()[:32]
                self._latents.finished(generation.visit, trajectory, origin)

    def repeated(self, generation: Generation) -> list[GeneratedImage]:
        """The finished images that answer this request, empty where one is not known."""
        if not cacheable(generation.request):
            return []
        images = [self._repeats.find(key) for key in self._repeat_keys(generation)]
        return [image for image in images if image] if all(images) else []

    def not_repeated(self, generation: Generation) -> None:
        """One of those images is no longer what it was."""
        for key in self._repeat_keys(generation):
            self._repeats.forget(key)

    def answered(self, generation: Generation, images: Sequence[GeneratedImage]) -> None:
        """Its images are stored."""
        if cacheable(generation.request):
            for key, image in zip(self._repeat_keys(generation), images, strict=True):
                self._repeats.add(Finished(key, image))
                self.sharing.add(Finished(key, image))

    def close(self) -> None:
        """Start nothing more; does not wait."""
        self.sharing.stop()
        if self._latents is not None:
            self._latents.close()

    @contextmanager
    def _optional(self, generation: Generation) -> Iterator[None]:
        """Whatever goes wrong inside, the request goes on as if there were no cache."""
        try:
            yield
        except Exception:
            structlog.get_logger().exception("cache failed", id=generation.id)
            generation.visit = None

    def _repeat_keys(self, generation: Generation) -> list[str]:
        request = generation.request
        seeds = (((request.seed or 0) + index) % (MAX_SEED + 1) for index in range(request.num_images))
        return [repeat(self._bundle, generation.tenant, request, seed) for seed in seeds]


def open_cache(
    config: RuntimeConfig, bundle: LoadedBundle, store: ObjectStore, metrics: Metrics
) -> RequestCache | None:
    """The cache as configured, None where it is off. Raises EngineIncompatible where the bundle cannot do it."""
    if config.cache == "off":
        return None
    manifest = bundle.manifest
    policy = _policy(config, bundle)
    failed = {tier: metrics.cache_failures.labels(tier).inc for tier in ("disk", "store")}
    log = None
    if config.cache_store_mb:
        replica = secrets.token_hex(4)
        log = SharedLog(store, manifest.model, manifest.version, replica, config.cache_store_mb * _MB, failed["store"])
    repeats, latents = Repeats(_MOST_REPEATS), None
    if policy is not None:
        disk = None
        if config.cache_disk_mb:
            folder = config.cache_dir / "latents" / manifest.model
            disk = LatentDisk(folder, manifest.version, config.cache_disk_mb * _MB, policy.eviction())
        latents = LatentCache(policy, config.cache_memory_mb * _MB, metrics, disk)
    sharing = Sharing(
        latents,
        repeats,
        log,
        seconds=config.cache_share_seconds,
        clock=time.time,
        damaged=metrics.cache_damaged.inc,
    )
    if latents is not None:
        latents.on_new = sharing.add
    named = f"{manifest.model} {manifest.version} {bundle.target.name} {policy.name if policy else 'repeats'}"
    return RequestCache(named, latents, repeats, sharing, metrics)


def _policy(config: RuntimeConfig, bundle: LoadedBundle) -> Policy | None:
    spec, prompts = bundle.manifest.cache, bundle.prompt_map
    if spec is not None and prompts is not None:
        return Calibrated(Calibration(prompts, spec, config.cache_quality, config.cache_deepest))
    if config.cache == "darkroom":
        raise EngineIncompatible(
            "RUNTIME_CACHE=darkroom: this bundle is not calibrated; "
            "run calibrate-cache and build it with --cache, or choose auto."
        )
    return None
