"""Frozen RuntimeConfig from `RUNTIME_*` variables; a variable it does not know is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from darkroom.bundles import signing
from darkroom.contracts import MODEL_NAME
from darkroom.gpu import GRAPHS
from darkroom.processors import processors
from darkroom.settings import Configured

PREFIX = "RUNTIME_"
_HOST_AND_PORT = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+):[1-9][0-9]{0,4}")


class RuntimeConfig(Configured):
    """How one replica runs, from `RUNTIME_{FIELD}`."""

    prefix = PREFIX

    store_url: str = Field("file://.darkroom/store", description="object store for bundles, and for images")
    images_url: str = Field("", description="object store for images, where they have one of their own")
    model: str = Field("crayon", pattern=MODEL_NAME, description="model name to serve")
    models: str = Field("", description="further model names, comma-separated, served in turns on the same device")
    version: str | None = Field(None, description="bundle version of `model`; default: the one its pointer names")
    target: str | None = Field(None, description="target to run; default: the first in the manifest that fits")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 lets the system choose")
    fd: int | None = Field(None, ge=0, description="inherited listening socket; takes precedence over host and port")
    max_rows: int = Field(8, ge=2, le=256, description="most UNet rows in one call; a guided image takes two")
    max_queue: int = Field(64, ge=1, description="requests accepted and not yet answered; beyond it 503 overloaded")
    ageing_steps: int = Field(8, ge=1, description="steps a trajectory may be passed over before its turn is certain")
    strict: bool = Field(False, description="run every image alone, so that its pixels depend on no neighbour")
    threads: int = Field(0, ge=0, le=1024, description="engine threads; 0: one per processor of its container")
    tile_beyond: int | None = Field(
        None,
        ge=0,
        description="side in pixels beyond which an image is decoded in tiles; 0: only where memory runs out; "
        "default: 768 on a CPU, 0 on a GPU",
    )
    bundle_dir: Path = Field(
        Path("/opt/ml/model"), description="folder of one version, as SageMaker mounts it; read where it has a manifest"
    )
    cache_dir: Path = Field(Path(".darkroom/cache"), description="where bundles from a remote store are kept")
    compiled_mb: int = Field(
        2048, ge=0, description="disk for what OpenVINO compiled, below cache_dir, read at the next start; 0: none"
    )
    static_mb: int = Field(
        512, ge=0, description="memory for graphs of a single shape each (OpenVINO), which are faster; 0: none"
    )
    trusted_keys: str = Field("", description="public keys, comma-separated; given, only signed bundles are loaded")
    gpu_memory_fraction: float = Field(
        1.0, gt=0, le=1, description="part of the GPU's memory this process may take; for several on one GPU"
    )
    gpu_graphs: int = Field(
        GRAPHS,
        ge=0,
        le=16,
        description="UNet shapes replayed as CUDA graphs under TensorRT; each holds the weights again",
    )
    drain_seconds: float = Field(25.0, ge=0, description="how long work in flight may go on after SIGTERM")
    hung_seconds: float = Field(120.0, gt=0, description="an engine call that takes longer is taken as hung")
    body_seconds: float = Field(10.0, gt=0, description="how long a request body may take to arrive")
    max_body_bytes: int = Field(3_145_728, ge=1024, description="largest request body; above the API's own cap")
    fetch_allow: str = Field(
        "", description="host:port,host:port that a request's image may be fetched from unchecked, by http too"
    )
    fetch_http: bool = Field(False, description="fetch a request's image by http:// too, from public addresses")
    fetch_seconds: float = Field(10.0, gt=0, description="all the time that fetching an image may take")
    max_image_bytes: int = Field(20 << 20, ge=1024, description="largest file of a request's image")
    max_image_pixels: int = Field(25_000_000, ge=64, description="most pixels of a request's image, by its header")
    cache: Literal["auto", "off", "darkroom"] = Field(
        "auto", description="auto: latents where the bundle is calibrated, else finished images only; darkroom: both"
    )
    cache_quality: float = Field(
        0.99, gt=0, lt=1, description="share of uncached quality that every image from the cache should have"
    )
    cache_deepest: float = Field(
        0.8, ge=0, lt=1, description="largest share of its steps that an image may skip; less: more variety"
    )
    cache_memory_mb: int = Field(256, ge=1, description="memory for latents")
    cache_disk_mb: int = Field(1024, ge=0, description="local disk for latents, below cache_dir; 0: none")
    cache_store_mb: int = Field(1024, ge=0, description="object store for latents that replicas share; 0: none")
    cache_share_seconds: float = Field(5.0, gt=0, description="between two exchanges with the store")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("fetch_allow")
    @classmethod
    def _each_names_a_host_and_a_port(cls, value: str) -> str:
        if not all(_HOST_AND_PORT.fullmatch(entry) for entry in _listed(value.lower())):
            raise ValueError("every entry must be host:port, an IPv6 address in brackets")
        return value

    @property
    def trusted_hosts(self) -> list[str]:
        """The `host:port` pairs of `fetch_allow`, as `darkroom.fetch.web_address` compares them."""
        return _listed(self.fetch_allow.lower())

    @field_validator("models")
    @classmethod
    def _are_names(cls, value: str) -> str:
        for name in _listed(value):
            if not re.fullmatch(MODEL_NAME, name):
                raise ValueError(f"{name} is no model name")
        return value

    @property
    def served(self) -> list[str]:
        """The names of all models to serve; the first answers requests that name none."""
        return list(dict.fromkeys([self.model, *_listed(self.models)]))

    @field_validator("trusted_keys")
    @classmethod
    def _are_keys(cls, value: str) -> str:
        for key in _listed(value):
            try:
                signing.decode_public(key)
            except signing.KeyRefused as refused:
                raise ValueError(str(refused)) from None
        return value

    @property
    def trusted(self) -> list[str]:
        """The public keys one of which must have signed a bundle; none: signatures are not looked at."""
        return _listed(self.trusted_keys)

    @property
    def thread_count(self) -> int:
        """Engine threads: as configured, or the processors this process may use."""
        return self.threads or processors()


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def load(environment: Mapping[str, str] | None = None) -> RuntimeConfig:
    """The configuration from the environment; see `Configured.read`."""
    return RuntimeConfig.read(environment)
