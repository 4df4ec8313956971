"""Images that are made but could not be stored, kept so that a retry of their invocation need not make them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from darkroom.contracts import GenerationRequest
from runtime.arrays import Pixels
from runtime.serving.generation import Generation

_Entry = tuple[GenerationRequest, list[Pixels]]


class Unsent:
    """A bounded memory of pixels by tenant and invocation id; the oldest are forgotten first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, generation: Generation, images: Sequence[Pixels]) -> None:
        """Remember all images of a request, uint8 [H, W, 3] each."""
        key = generation.tenant, generation.id
        with self._lock:
            self._kept[key] = generation.request, list(images)
            self._kept.move_to_end(key)
            while sum(image.nbytes for _, kept in self._kept.values() for image in kept) > self._max_bytes:
                self._kept.popitem(last=False)

    def find(self, generation: Generation) -> list[Pixels] | None:
        """The images of the same invocation, where its request was equal, seed included."""
        with self._lock:
            request, images = self._kept.get((generation.tenant, generation.id), (None, []))
        return images if request == generation.request else None

    def forget(self, generation: Generation) -> None:
        """Its images are stored."""
        with self._lock:
            self._kept.pop((generation.tenant, generation.id), None)
