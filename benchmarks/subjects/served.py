"""The runtime as it serves, all but HTTP, in process and on one thread: requests in, pixels out."""

from __future__ import annotations

import io
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image

from benchmarks.subjects.engine import BUNDLE
from darkroom.contracts import GenerationRequest, Invocation
from darkroom.storage import open_store
from darkroom.storage.directory import DirectoryStore
from runtime import config
from runtime.bundles.bundle import fetch_bundle, load_bundle
from runtime.bundles.hardware import this_machine
from runtime.metrics import Metrics
from runtime.serving.service import Service

_AT_ONCE = 16  # requests in the queue together


@dataclass(frozen=True, eq=False)
class Drawn:
    """The first image of an answer, uint8 [H, W, 3], and what its ControlNet was shown."""

    image: NDArray[np.uint8]
    control: NDArray[np.uint8] | None


class ServedBundle:
    """A target of a bundle behind the runtime's own admission, batcher and uploader."""

    def __init__(self, target: str, threads: int = 2, store: Path = BUNDLE, model: str = "crayon") -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        bundle = fetch_bundle(open_store(str(store)), model, None, target, this_machine(), Path(".darkroom/cache"))
        self._folder = tempfile.TemporaryDirectory()
        self._images = DirectoryStore(Path(self._folder.name))
        loaded = load_bundle(bundle, threads)
        self._service = Service(loaded, config.load({}), self._images, Metrics(), time.monotonic, time.sleep)

    def draw(self, requests: Sequence[GenerationRequest]) -> list[Drawn]:
        """Every request's first image. Raises: DarkroomError, as serving them would."""
        drawn: list[Drawn] = []
        for start in range(0, len(requests), _AT_ONCE):
            part = enumerate(requests[start : start + _AT_ONCE], start)
            generations = [self._service.admit(Invocation(id=f"{number}", request=one), None) for number, one in part]
            while self._service.loop.turn():
                pass
            for result in [generation.answer.result() for generation in generations]:
                controls = [self._pixels(image.key) for image in result.control_images]
                drawn.append(Drawn(self._pixels(result.images[0].key), controls[0] if controls else None))
        return drawn

    def close(self) -> None:
        """End its threads and forget the images."""
        self._service.stop()
        self._folder.cleanup()

    def _pixels(self, key: str) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(self._images.get(key))) as image:
            return np.asarray(image.convert("RGB"))
