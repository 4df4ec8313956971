"""Finished pixels -> object store, in threads of their own, so that the engine never waits for storage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from darkroom.contracts import GeneratedImage, OutputFormat, StoredImage
from darkroom.errors import DarkroomError, StorageFull, StorageUnavailable
from darkroom.images.finished import control_key, image_key
from darkroom.storage import ObjectStore
from runtime.arrays import Pixels
from runtime.metrics import Metrics
from runtime.pictures.encode import encode_image
from runtime.serving.generation import Generation
from runtime.serving.unsent import Unsent

_WORKERS = 4
_DELAYS = (0.25, 1.0, 3.0)  # seconds; on top of the store's own retries


class Uploader:
    """Encodes and stores the images of a request once all of them are there."""

    def __init__(
        self,
        store: ObjectStore,
        metrics: Metrics,
        unsent: Unsent,
        finish: Callable[[Generation, list[StoredImage]], None],
        wait: Callable[[float], object],
    ) -> None:
        """`finish` is called, from an upload thread, with all images of a request, the control images last; `wait`
        sleeps for some seconds.
        """
        self._store = store
        self._metrics = metrics
        self._unsent = unsent
        self._finish = finish
        self._wait = wait
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="upload")
        self._log = structlog.get_logger()

    def upload(self, generation: Generation, images: Sequence[Pixels]) -> None:
        """Returns at once. `images` are all that were made, uint8 [H, W, 3] each; control images are stored as well.

        A request that is given up meanwhile stores nothing more. What is already stored of it stays: deleting could
        race with a retry of the same invocation elsewhere.
        """
        for index in range(len(images) + len(generation.inputs.controls)):
            self._pool.submit(self._upload_one, generation, images, index)

    def copy(
        self,
        generation: Generation,
        images: Sequence[GeneratedImage],
        copied: Callable[[Generation, list[GeneratedImage]], None],
        changed: Callable[[Generation], None],
    ) -> None:
        """Returns at once. Store finished images again as this request's own, so that each is its owner's to delete.

        Calls `copied` with the copies, or `changed` where one of them is no longer there, or not what it was.
        """

        def copy_all() -> None:
            try:
                copies = [self._copy_one(generation, image, index) for index, image in enumerate(images)]
            except (DarkroomError, ValueError):
                changed(generation)
            else:
                copied(generation, copies)

        self._pool.submit(copy_all)

    def close(self) -> None:
        """Start nothing more; does not wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _copy_one(self, generation: Generation, image: GeneratedImage, index: int) -> GeneratedImage:
        """Raises ValueError where the image is not what it was, and DarkroomError as the store does."""
        body = self._store.get(image.key)
        if hashlib.sha256(body).hexdigest() != image.sha256:
            raise ValueError(image.key)
        key = image_key(generation.id, index, generation.request.output_format.value)
        if key != image.key:
            self._store.put(key, body, content_type=image.content_type)
        return image.model_copy(update={"key": key})

    def _upload_one(self, generation: Generation, images: Sequence[Pixels], index: int) -> None:
        try:
            stored = self._store_one(generation, images, index)
            complete = None if stored is None else generation.stored(index, stored)
            if complete is not None:
                self._finish(generation, complete)
        except (StorageUnavailable, StorageFull) as error:
            self._unsent.keep(generation, images)
            generation.fail(error)
        except Exception:
            self._log.exception("upload failed", id=generation.id)
            generation.fail(DarkroomError())

    def _store_one(self, generation: Generation, images: Sequence[Pixels], index: int) -> StoredImage | None:
        """None when the request was given up before its image was stored."""
        control = index - len(images)
        if control < 0:
            pixels, output_format = images[index], generation.request.output_format
            key = image_key(generation.id, index, output_format.value)
        else:
            pixels, output_format = generation.inputs.controls[control], OutputFormat.PNG
            key = control_key(generation.id, control)
        body = encode_image(pixels, output_format)
        if not self._put(generation, key, body, output_format.content_type):
            return None
        height, width, _ = pixels.shape
        stored = StoredImage(
            key=key,
            width=width,
            height=height,
            content_type=output_format.content_type,
            size=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )
        return GeneratedImage(**dict(stored), seed=generation.trajectories[index].seed) if control < 0 else stored

    def _put(self, generation: Generation, key: str, body: bytes, content_type: str) -> bool:
        delays = iter(_DELAYS)
        while not generation.answered:
            try:
                self._store.put(key, body, content_type=content_type)
                return True
            except StorageUnavailable:
                delay = next(delays, None)
                if delay is None:
                    raise
            self._metrics.upload_retries.inc()
            self._wait(delay)
        return False
