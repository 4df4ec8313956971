"""One thing the cache remembers, and its form as bytes: whatever is wrong with those is found out before use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from runtime.arrays import Floats

Halves = NDArray[np.float16]

MAGIC = b"latents1"
_DIGEST = hashlib.sha256().digest_size


class Damaged(Exception):
    """These bytes are not those of an entry as it was written."""


@dataclass(frozen=True, eq=False)
class Entry:
    """Latents that a trajectory had before `step`; `step` equal to `steps` means those of the finished image.

    `scope` says who may see it (see `runtime.cache.scope`), `origin` which trajectory it comes from; `vector`, float32
    [D], is what its prompt is found by. `latents` and `denoised` are float16 [C, h, w]; `denoised` is there only where
    the sampler looks back at it.
    """

    scope: str
    origin: str
    step: int
    steps: int
    vector: Floats
    latents: Halves
    denoised: Halves | None = None

    @property
    def id(self) -> str:
        return f"{self.origin}-{self.step}"

    @property
    def nbytes(self) -> int:
        """What it is accounted with in memory."""
        return self.vector.nbytes + self.latents.nbytes + (0 if self.denoised is None else self.denoised.nbytes)


def halved(latents: Floats) -> Halves | None:
    """float32 -> float16, None where a value is not finite, before or after."""
    with np.errstate(over="ignore", invalid="ignore"):
        small = latents.astype(np.float16)
    return small if np.isfinite(small).all() else None


def seal(magic: bytes, body: bytes) -> bytes:
    """A record: what kind it is of, a SHA-256, and what that is of."""
    return magic + hashlib.sha256(body).digest() + body


def unseal(magic: bytes, record: bytes) -> bytes:
    """The body of a record of this kind. Raises Damaged."""
    start = len(magic) + _DIGEST
    body = record[start:]
    if record[:start] != magic + hashlib.sha256(body).digest():
        raise Damaged
    return body


def pack(entry: Entry) -> bytes:
    """As a record."""
    arrays = {"vector": entry.vector, "latents": entry.latents}
    if entry.denoised is not None:
        arrays["denoised"] = entry.denoised
    fields = {name: str(getattr(entry, name)) for name in ("scope", "origin", "step", "steps")}
    return seal(MAGIC, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, fields))


def unpack(packed: bytes) -> Entry:
    """Raises Damaged."""
    body = unseal(MAGIC, packed)
    try:
        arrays, fields = load(body), _metadata(body)
        return Entry(
            scope=fields["scope"],
            origin=fields["origin"],
            step=int(fields["step"]),
            steps=int(fields["steps"]),
            vector=arrays["vector"],
            latents=arrays["latents"],
            denoised=arrays.get("denoised"),
        )
    except (SafetensorError, KeyError, ValueError):  # whole, but written by something else
        raise Damaged from None


def _metadata(body: bytes) -> dict[str, str]:
    """The free part of a safetensors header, which the library's numpy reader leaves out."""
    length = int.from_bytes(body[:8], "little")
    metadata = json.loads(body[8 : 8 + length]).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}
