"""A bundle from the object store: fetched, every file verified, and only then loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog

from darkroom.bundles import signing
from darkroom.bundles.catalog import bundle_key, load_manifest
from darkroom.bundles.manifest import BundleFile, EngineManifest, Target
from darkroom.bundles.row_costs import RowCosts, load_row_costs
from darkroom.errors import DarkroomError, EngineIntegrity, ObjectNotFound
from darkroom.storage import ObjectReader
from runtime.bundles.hardware import Machine, choose_target, processor
from runtime.bundles.tokenizer import PromptTokenizer
from runtime.cache.calibrated import PromptMap
from runtime.denoising.samplers import SamplerTables
from runtime.engines import DECODER, UNET, Engine, component_sizes, open_engine
from runtime.engines.compiled import CompiledGraphs
from runtime.engines.shaped import StaticShapes

_FETCHES_AT_ONCE = 8


@dataclass(frozen=True)
class Bundle:
    """A version on this machine: `files` maps each path of the manifest that its target needs to a verified file.

    `preferred` is the better kind of target that does not fit this machine, where there is one; `row_costs` is what was
    measured when it was built, if anything.
    """

    manifest: EngineManifest
    target: Target
    files: Mapping[str, Path]
    preferred: Target | None = None
    row_costs: RowCosts | None = None

    def row_cap(self, threads: int) -> int | None:
        """See `LoadedBundle`."""
        return self.row_costs.row_cap(self.target.name, processor(), threads) if self.row_costs else None


@dataclass(frozen=True)
class LoadedBundle:
    """Everything of a bundle that serving needs, ready for use.

    Beyond `row_cap` in a call more rows buy nothing on this machine; None: not known.
    """

    manifest: EngineManifest
    target: Target
    engine: Engine
    tokenizer: PromptTokenizer
    samplers: SamplerTables
    preferred: Target | None = None
    row_cap: int | None = None
    prompt_map: PromptMap | None = None


def fetch_bundle(
    store: ObjectReader,
    model: str,
    version: str | None,
    target: str | None,
    machine: Machine,
    cache: Path,
    trusted: Sequence[str] = (),
) -> Bundle:
    """Bring the files of the best target here and verify each one's size and SHA-256; nothing is deserialized.

    A file that an earlier start left in `cache` is used again if it still is what the manifest says. With `trusted`
    public keys the manifest must be signed by one of them.

    Raises: ModelNotFound, EngineIncompatible, EngineIntegrity, StorageUnavailable.
    """
    manifest = load_manifest(store, model, version)
    signing.check(manifest, trusted)
    choice = choose_target(manifest, machine, target)
    chosen = choice.target
    folder = cache / model / manifest.version
    shared = [manifest.text.tokenizer, manifest.samplers.tables]
    if manifest.cache is not None:
        shared.append(manifest.cache.tensors)
    needed = dict.fromkeys((*shared, *chosen.components.values(), *chosen.files))

    def bring(path: str) -> Path:
        expected, local = manifest.file(path), folder / path
        if _is(expected, local):
            return local
        try:
            fetched = store.fetch(bundle_key(model, manifest.version, path), local)
        except ObjectNotFound:
            raise EngineIntegrity(
                f"{path} of {model} {manifest.version} is missing; publish the bundle again."
            ) from None
        if not _is(expected, fetched):
            raise EngineIntegrity(
                f"{path} of {model} {manifest.version} is not what its manifest says; publish the bundle again."
            )
        return fetched

    with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:  # hashing and reading release the interpreter lock
        files = dict(zip(needed, pool.map(bring, needed), strict=True))
    return Bundle(manifest, chosen, files, choice.preferred, _row_costs(store, manifest))


def _row_costs(store: ObjectReader, manifest: EngineManifest) -> RowCosts | None:
    """They only advise: without them the runtime learns by itself what rows cost here."""
    try:
        return load_row_costs(store, manifest.model, manifest.version)
    except DarkroomError as refused:
        structlog.get_logger().warning("row costs are not used", why=refused.detail)
        return None


def kept_graphs(bundle: Bundle, machine: Machine, cache: Path, megabytes: int) -> CompiledGraphs | None:
    """What earlier starts compiled of this target on a processor like this machine's, kept below `cache`; None where
    nothing is: its engine library does not need it, or it may take no megabyte.
    """
    if bundle.target.format != "openvino" or not megabytes:
        return None
    made_for = (bundle.manifest.version, bundle.target.name, processor(), *sorted(machine.cpu_features))
    return CompiledGraphs(cache / "compiled", megabytes << 20, made_for)


def static_shapes(
    bundle: Bundle, threads: int, max_rows: int, megabytes: int, tile_beyond: int = 0
) -> dict[str, StaticShapes]:
    """By component, the calls at the default size that have graphs of their own: as many of the UNet's as this much
    memory holds, and the decoder's, where an image of that size is not beyond `tile_beyond` (see `Autoencoder`).

    Empty where the engine library gains nothing by it, and for no memory.
    """
    manifest, target = bundle.manifest, bundle.target
    if target.format != "openvino" or not megabytes:
        return {}
    row = _row(manifest)
    unet = StaticShapes.within(
        megabytes << 20,
        component_sizes(target, bundle.files)[UNET],
        row,
        unit=1 if manifest.guidance_is_an_input else 2,
        most=min(max_rows, bundle.row_cap(threads) or max_rows),
    )
    static = {UNET: unet} if unet.rows else {}
    if not tile_beyond or max(manifest.defaults.height, manifest.defaults.width) <= tile_beyond:
        static[DECODER] = StaticShapes({"latents": row["latents"]}, [1])  # it decodes one image a call
    return static


def _row(manifest: EngineManifest) -> dict[str, tuple[int, ...]]:
    """The shapes of what the UNet takes for one row at the default size."""
    latents, text, defaults = manifest.latents, manifest.text, manifest.defaults
    height, width = defaults.height // latents.downscale, defaults.width // latents.downscale
    further: dict[str, tuple[int, ...]] = {"text_embeds": (text.pooled_dim or 0,), "time_ids": (6,), "guidance": ()}
    return {
        "latents": (latents.channels, height, width),
        "timestep": (),
        "prompt_embeds": (text.max_length, text.embedding_dim),
        **{name: further[name] for name in manifest.conditions},
        **{
            residual.name: (residual.channels, -(-height // residual.shrink), -(-width // residual.shrink))
            for residual in (manifest.control.residuals if manifest.control else ())
        },
    }


def load_bundle(
    bundle: Bundle,
    threads: int,
    open_target: Callable[[Target, Mapping[str, Path], int], Engine] = open_engine,
) -> LoadedBundle:
    """Deserialize a verified bundle and compile its engine for `threads` threads. Raises EngineIntegrity."""
    manifest = bundle.manifest
    tokenizer = PromptTokenizer(bundle.files[manifest.text.tokenizer].read_bytes(), manifest.text)
    samplers = SamplerTables(bundle.files[manifest.samplers.tables].read_bytes(), manifest.samplers)
    engine = open_target(bundle.target, bundle.files, threads)
    rows = bundle.row_cap(threads)
    prompt_map = PromptMap(bundle.files[manifest.cache.tensors].read_bytes()) if manifest.cache else None
    return LoadedBundle(manifest, bundle.target, engine, tokenizer, samplers, bundle.preferred, rows, prompt_map)


def _is(expected: BundleFile, path: Path) -> bool:
    """Whether a file is there and has this size and SHA-256."""
    try:
        if path.stat().st_size != expected.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256
    except FileNotFoundError:
        return False
