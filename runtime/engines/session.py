"""What ONNX Runtime's sessions may take of the GPU each, and what engine libraries' failures mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from darkroom.errors import EngineIncompatible

# What ONNX Runtime, OpenVINO and oneDNN say when an allocation fails; the Python bindings keep only the text.
_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "failed to allocate", "could not allocate")
_ACTIVATIONS = {"unet": 0.6, "vae_decoder": 0.3}  # of what the weights leave: the shares of those who need most
_OTHERS = 0.1


@dataclass(frozen=True)
class Bounds:
    """What a GPU's sessions are held to: `shares` is the most memory in bytes that each component may take, `most_rows`
    the most rows that the UNet's engine takes, `graphs` how many of its shapes may have a session of their own.
    """

    shares: Mapping[str, int] = field(default_factory=dict)
    most_rows: int | None = None
    graphs: int = 0


def raised(failure: Exception) -> Exception:
    """MemoryError where memory ran out, else the failure itself: the bindings' exceptions share no public base."""
    return MemoryError() if any(phrase in str(failure).lower() for phrase in _OUT_OF_MEMORY) else failure


def memory_shares(weights: Mapping[str, int], limit: int) -> dict[str, int]:
    """`limit` bytes divided among components: to each its weights, and a fixed share of what is left.

    Every session has an arena of its own, so a limit for the process is the sum of theirs. Raises: EngineIncompatible.
    """
    left = limit - sum(weights.values())
    if left <= 0:
        needed, given = (size / 2**30 for size in (sum(weights.values()), limit))
        raise EngineIncompatible(
            f"The weights take {needed:.1f} GiB and this process may take {given:.1f} GiB of the GPU; "
            "raise RUNTIME_GPU_MEMORY_FRACTION."
        )
    others = [name for name in weights if name not in _ACTIVATIONS]
    shares = {name: _ACTIVATIONS.get(name) or _OTHERS / len(others) for name in weights}
    return {name: size + int(left * shares[name]) for name, size in weights.items()}
