"""Fingerprint: all that one compiled engine was made of; an engine lies in a folder that bears its digest."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import BaseModel, Field

Span = tuple[int, int, int]


class Profile(BaseModel, frozen=True, extra="forbid"):
    """Which UNet calls an engine was made for, each as (least, usual, most): rows, height and width of the latents."""

    rows: Span
    height: Span
    width: Span


class Fingerprint(BaseModel, frozen=True, extra="forbid"):
    """`graph_sha256` is that of the ONNX graph the engine was compiled from. `controlnets` and `loras` name the further
    checkpoints that have a part in it, by SHA-256 (a LoRA's with its scale).
    """

    checkpoint_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    component: str
    graph_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    precision: str
    profile: Profile | None
    controlnets: list[str] = []
    loras: list[str] = []
    library: str
    version: str
    cuda: str | None = None
    tensorrt: str | None = None
    gpu_architecture: str | None = None

    def digest(self) -> str:
        """16 hex digits of SHA-256 over every field."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()[:16]


def canonical(content: object) -> bytes:
    """JSON with one way of being written, for hashing and signing."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
