"""Finished images by the request and seed they answer, so that the same one is not drawn twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from pydantic import ValidationError

from darkroom.contracts import GeneratedImage
from runtime.cache.entry import Damaged, seal, unseal

_MAGIC = b"repeats1"


@dataclass(frozen=True)
class Finished:
    """An image in the object store, and the key of what it is the answer to (see `runtime.cache.scope.repeat`)."""

    key: str
    image: GeneratedImage

    def pack(self) -> bytes:
        return seal(_MAGIC, self.key.encode() + b"\n" + self.image.model_dump_json().encode())

    @classmethod
    def unpack(cls, packed: bytes) -> Finished:
        """Raises Damaged."""
        key, _, image = unseal(_MAGIC, packed).partition(b"\n")
        try:
            return cls(key.decode(), GeneratedImage.model_validate_json(image))
        except (ValidationError, UnicodeDecodeError):
            raise Damaged from None


class Repeats:
    """A bounded memory of where finished images are; the longest unused are forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._images: OrderedDict[str, GeneratedImage] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def add(self, finished: Finished) -> None:
        with self._lock:
            self._images[finished.key] = finished.image
            self._images.move_to_end(finished.key)
            while len(self._images) > self._most:
                self._images.popitem(last=False)

    def find(self, key: str) -> GeneratedImage | None:
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def forget(self, key: str) -> None:
        """Its image is not what it was."""
        with self._lock:
            self._images.pop(key, None)
