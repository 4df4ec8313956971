"""A replica's parts in memory: a fake engine whose faults are chosen by prompt, a store, a clock that tests move."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from safetensors.numpy import save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from darkroom.bundles.manifest import CacheSpec, EngineManifest
from darkroom.contracts import GenerationRequest, Invocation
from darkroom.errors import ObjectNotFound, ObjectTooLarge
from runtime.bundles.bundle import LoadedBundle
from runtime.bundles.tokenizer import PromptTokenizer
from runtime.cache.calibrated import PromptMap
from runtime.config import RuntimeConfig
from runtime.denoising.samplers import COLUMNS, SamplerTables
from runtime.metrics import Metrics
from runtime.serving.generation import Generation
from runtime.serving.service import Service
from runtime.serving.turns import ALONE, Seat

MAX_STEPS = 60
WORDS = ["<start>", "<end>", "<unknown>", "a", "cat", "dog", "poison", "nan", "black", "unencodable"]
LENGTH, DIM = 8, 4
ALL_PAY = 256
COMPONENTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder", "controlnet_canny", "controlnet_depth")


class FakeEngine:
    """Arithmetic that keeps rows apart; a word of the prompt chooses the fault of its row.

    `poison` raises, `nan` gives NaN, `black` decodes to NaN, `unencodable` raises in the text encoder. More than
    `most_rows` rows raise MemoryError. `calls` records the timesteps of every step, `controlled` the ControlNet and the
    timesteps of each of its calls. A ControlNet's residual is the brightness of its control image.
    """

    def __init__(self) -> None:
        self.most_rows = 1000
        self.calls: list[list[float]] = []
        self.controlled: list[tuple[str, list[float]]] = []
        self.encoded = 0
        self.encoded_images = 0
        self.decoded = 0
        self.before_predict: Callable[[], object] = lambda: None

    def encode(self, input_ids: Any) -> Any:
        self.encoded += 1
        if WORDS.index("unencodable") in input_ids:
            raise RuntimeError("encoder")
        return {"prompt_embeds": np.repeat(input_ids[:, :, None], DIM, axis=2).astype(np.float32)}

    def predict(self, latents: Any, timestep: Any, prompt_embeds: Any, **residuals: Any) -> Any:
        assert latents.dtype == timestep.dtype == prompt_embeds.dtype == np.float32
        assert len(latents) == len(timestep) == len(prompt_embeds)
        self.before_predict()
        self.calls.append(timestep.tolist())
        if len(latents) > self.most_rows:
            raise MemoryError
        words = prompt_embeds[:, :, 0]
        if (words == WORDS.index("poison")).any():
            raise RuntimeError("poison")
        strength = words.sum(axis=1)[:, None, None, None] / 100
        output = (0.1 * latents + timestep[:, None, None, None] / 1000 + strength).astype(np.float32)
        output = output + residuals.get("down_residual_0", np.float32(0))
        output[(words == WORDS.index("nan")).any(axis=1)] = np.nan
        # Poisoned by the prompt, seen only by the decoder.
        output[(words == WORDS.index("black")).any(axis=1)] = 1e30
        return output

    def control(
        self, component: str, latents: Any, timestep: Any, control_image: Any, prompt_embeds: Any
    ) -> dict[str, Any]:
        assert len(latents) == len(timestep) == len(prompt_embeds) == len(control_image)
        assert control_image.shape[2:] == (8 * latents.shape[2], 8 * latents.shape[3])
        assert control_image.dtype == np.float32
        self.controlled.append((component, timestep.tolist()))
        rows, _, height, width = latents.shape
        bright = control_image.mean(axis=(1, 2, 3), keepdims=True)
        half = (rows, 2, -(-height // 2), -(-width // 2))
        return {
            "down_residual_0": bright * np.ones((rows, 4, height, width), np.float32),
            "mid_residual": bright * np.ones(half, np.float32),
        }

    def encode_image(self, image: Any) -> tuple[Any, Any]:
        self.encoded_images += 1
        mean = np.concatenate([image, image[:, :1]], axis=1)[:, :, ::8, ::8]
        return mean, np.full_like(mean, 0.25)

    def decode(self, latents: Any) -> Any:
        self.decoded += 1
        image = np.tanh(np.repeat(np.repeat(latents[:, :3], 8, axis=2), 8, axis=3))
        if np.abs(latents).max() > 1e20:
            image[:] = np.nan
        return image.astype(np.float32)


class MemoryStore:
    """An object store in memory; `faults` are raised, in order, by the next writes."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.faults: list[Exception] = []
        self.writes = 0
        self._lock = threading.Lock()

    def put(self, key: str, body: bytes | Path, *, content_type: str = "application/octet-stream") -> None:
        with self._lock:
            self.writes += 1
            if self.faults:
                raise self.faults.pop(0)
            self.objects[key] = body.read_bytes() if isinstance(body, Path) else body

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        try:
            body = self.objects[key]
        except KeyError:
            raise ObjectNotFound from None
        if limit is not None and len(body) > limit:
            raise ObjectTooLarge
        return body

    def fetch(self, key: str, destination: Path) -> Path:
        body = self.get(key)
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(body)
        return destination

    def exists(self, key: str) -> bool:
        return key in self.objects

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def changed_before(self, prefix: str, when: float) -> Iterator[str]:
        raise NotImplementedError

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def url(self, key: str, *, expires: int) -> str:
        return f"memory:{key}?expires={expires}"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tables_file() -> bytes:
    """`plain` subtracts a part of the output; `noisy` also adds noise and uses the previous denoised estimate, so that
    it has updates of its own for a first step.
    """
    tensors = {}
    for name in ("plain", "noisy"):
        tensors[f"{name}/init_noise_sigma"] = np.full(MAX_STEPS, 1.0 if name == "plain" else 3.0)
        for steps in range(1, MAX_STEPS + 1):
            table = np.zeros((steps, len(COLUMNS)))
            table[:, COLUMNS.index("timestep")] = np.linspace(999, 0, steps, endpoint=False)
            table[:, COLUMNS.index("c_in")] = 1.0 if name == "plain" else 0.5
            table[:, COLUMNS.index("a_x")] = 0.9
            table[:, COLUMNS.index("a_model")] = -0.2
            table[:, COLUMNS.index("d_x")] = 1.0
            table[:, COLUMNS.index("d_model")] = -0.5
            if name == "noisy":
                table[1:, COLUMNS.index("a_denoised")] = 0.05
                table[:-1, COLUMNS.index("a_noise")] = 0.3
            tensors[f"{name}/{steps}"] = table
            noise = np.linspace(1, 0, steps, endpoint=False)
            tensors[f"{name}/{steps}/entry"] = np.stack([1 - noise / 2, noise], axis=1)
            if name == "noisy":
                first = table[:, COLUMNS.index("a_x") :].copy()
                first[:, 2] = 0
                tensors[f"{name}/{steps}/first"] = first
    return save(tensors)


def tokenizer_file() -> bytes:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer.to_str().encode()


CONTENTS = {"tokenizer.json": tokenizer_file(), "samplers.safetensors": tables_file(), "net.xml": b"<net/>"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Upload threads log after a test's output has been taken: let no line out that no test looks at."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def contents() -> dict[str, bytes]:
    """The files of the bundle, by path."""
    return dict(CONTENTS)


@pytest.fixture
def manifest() -> EngineManifest:
    files = [
        {"path": path, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for path, body in CONTENTS.items()
    ]
    draft = EngineManifest.model_validate(
        {
            "model": "tiny",
            "version": "0" * 16,
            "pipeline": "stable-diffusion",
            "prediction_type": "epsilon",
            "checkpoint_sha256": "0" * 64,
            "files": files,
            "targets": [
                {
                    "name": name,
                    "format": "openvino",
                    "precision": precision,
                    "components": dict.fromkeys(COMPONENTS, "net.xml"),
                    "files": ["net.xml"],
                    "requires": {"library": "openvino", "version": "2026.4.1", "cpu_features": features},
                }
                for name, precision, features in (("fast", "bf16", ["avx512_bf16"]), ("plain", "fp32", []))
            ],
            "text": {
                "tokenizer": "tokenizer.json",
                "max_length": LENGTH,
                "bos_token_id": 0,
                "eos_token_id": 1,
                "pad_token_id": 1,
                "embedding_dim": DIM,
            },
            "latents": {
                "channels": 4,
                "downscale": 8,
                "scaling_factor": 0.5,
                "preview": [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0, 0, 0], [0, 0, 0]],
            },
            "samplers": {
                "tables": "samplers.safetensors",
                "names": ["plain", "noisy"],
                "max_steps": MAX_STEPS,
                "entries": True,
            },
            "defaults": {
                "width": 32,
                "height": 32,
                "num_inference_steps": 4,
                "guidance_scale": 3.0,
                "sampler": "plain",
            },
            "limits": {"min_size": 16, "max_size": 64, "max_pixels": 64 * 64},
            "built_with": {},
            "control": {
                "nets": [{"type": kind, "component": f"controlnet_{kind}"} for kind in ("canny", "depth")],
                "residuals": [
                    {"name": "down_residual_0", "channels": 4, "shrink": 1},
                    {"name": "mid_residual", "channels": 2, "shrink": 2},
                ],
            },
        }
    )
    return draft.model_copy(update={"version": draft.content_version()})


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def tables(manifest: EngineManifest) -> SamplerTables:
    return SamplerTables(CONTENTS["samplers.safetensors"], manifest.samplers)


@pytest.fixture
def bundle(manifest: EngineManifest, engine: FakeEngine, tables: SamplerTables) -> LoadedBundle:
    tokenizer = PromptTokenizer(CONTENTS["tokenizer.json"], manifest.text)
    return LoadedBundle(manifest, manifest.targets[1], engine, tokenizer, tables, row_cap=ALL_PAY)


def prompt_map_file(**changed: Any) -> bytes:
    """A calibration under which a prompt is the sum of its words: its code, its place in the index, its mean image."""
    size = LENGTH * DIM
    tensors = {
        "prompt_mean": np.zeros(size),
        "prompt_basis": np.ones((size, 1)) / DIM,
        "hidden": np.zeros((1, 1)),
        "hidden_bias": np.zeros(1),
        "output": np.zeros((1, 1)),
        "skip": np.ones((1, 1)),
        "output_bias": np.zeros(1),
        "image_basis": np.full((1, 4 * 4 * 4), 0.01),
        "metric": np.ones(1),
        **changed,
    }
    return save({name: np.asarray(tensor, np.float16) for name, tensor in tensors.items()})


def cache_spec(**changed: Any) -> CacheSpec:
    """Fails in 1 of 100 at squared distance 1.5 from timestep 250 on, and from 500 on at squared distance 4."""
    odds = float(np.log(0.01 / 0.99))
    levels = [
        {"timestep": timestep, "intercept": odds - 2 * float(np.log(reach)), "slope": 2.0, "farthest": 1e6}
        for timestep, reach in ((250.0, 1.5), (500.0, 4.0))
    ]
    spec = {
        "tensors": "cache.safetensors",
        "criterion": "test",
        "width": 32,
        "height": 32,
        "guidance_scale": 1.0,
        "failing": 0.0,
        "random_distance": 100.0,
        "levels": levels,
    }
    return CacheSpec.model_validate({**spec, **changed})


@pytest.fixture
def calibrated(bundle: LoadedBundle) -> LoadedBundle:
    """The bundle with a calibration."""
    manifest = bundle.manifest.model_copy(update={"cache": cache_spec()})
    return replace(bundle, manifest=manifest, prompt_map=PromptMap(prompt_map_file()))


@pytest.fixture
def build_service(
    bundle: LoadedBundle, store: MemoryStore, metrics: Metrics, clock: Clock
) -> Iterator[Callable[..., Service]]:
    """Builds services of the fake bundle with these settings; upload delays take no time."""
    built: list[Service] = []

    def build(
        served: LoadedBundle | None = None, *, seat: Seat = ALONE, metrics: Metrics = metrics, **settings: Any
    ) -> Service:
        service = Service(served or bundle, RuntimeConfig(**settings), store, metrics, clock, lambda _: None, seat)
        built.append(service)
        return service

    yield build
    for service in built:
        service.stop()


@pytest.fixture
def service(build_service: Callable[..., Service]) -> Service:
    return build_service()


@pytest.fixture
def admit() -> Callable[..., Generation]:
    """Admits a request, unguided and seeded unless told otherwise."""
    numbers = iter(range(1000))

    def admit(service: Service, prompt: str = "a cat", **fields: Any) -> Generation:
        envelope = {name: fields.pop(name) for name in ("id", "deadline_seconds") if name in fields}
        listener = fields.pop("listener", None)
        request = GenerationRequest(prompt=prompt, **{"seed": 7, "guidance_scale": 1.0, **fields})
        invocation = Invocation(**{"id": f"request-{next(numbers)}", "request": request, **envelope})
        return service.admit(invocation, listener)

    return admit


@pytest.fixture
def turn_until_idle() -> Callable[[Service], int]:
    """Turns a service's loop until there is nothing to step; the number of turns."""

    def turn(service: Service) -> int:
        turns = 0
        while service.loop.turn():
            turns += 1
        return turns

    return turn
