"""The images that a request brings: fetched, inline or uploaded, and decoded within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from darkroom.errors import ImageTooLarge, ObjectNotFound, ObjectTooLarge, RequestError, UploadNotFound
from darkroom.fetch.fetcher import Fetcher
from darkroom.images import data_uri, uploads
from darkroom.storage import ObjectStore
from runtime.arrays import Pixels
from runtime.config import RuntimeConfig
from runtime.pictures.decode import Mask, decode, decode_mask, size_of
from runtime.pictures.slots import Slots

Result = TypeVar("Result")
_DECODED_AT_ONCE = 2  # one of 25 million pixels takes 200 MB while it is decoded; fetching waits for nobody


class InputImages:
    """Reads and decodes; it may take as long as a fetch may, so never on the engine thread nor in the event loop.

    Its methods may be called from any thread. `field` is the JSON pointer that an error names.
    """

    def __init__(self, fetcher: Fetcher, store: ObjectStore, *, max_bytes: int, max_pixels: int) -> None:
        """`max_bytes` bounds a file, `max_pixels` what its header may say."""
        self._fetcher = fetcher
        self._store = store
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._decoding = Slots(_DECODED_AT_ONCE)

    @staticmethod
    def of(config: RuntimeConfig, store: ObjectStore) -> InputImages:
        fetcher = Fetcher(
            trusted=config.trusted_hosts,
            http=config.fetch_http,
            max_bytes=config.max_image_bytes,
            seconds=config.fetch_seconds,
        )
        return InputImages(fetcher, store, max_bytes=config.max_image_bytes, max_pixels=config.max_image_pixels)

    def read(self, source: str, tenant: str, *, field: str = "/image") -> bytes:
        """The file that a URL, a data URI or `upload:<id>` of this tenant leads to.

        Raises: ImageUrlRejected, ImageFetchFailed, ImageFetchTimeout, ImageTooLarge, InvalidBase64, UploadNotFound;
        StorageUnavailable.
        """
        return _naming(field, lambda: self._read(source, tenant))

    def decode(self, data: bytes, tenant: str, width: int, height: int, *, field: str = "/image") -> Pixels:
        """uint8 [height, width, 3]. Raises: as `runtime.pictures.decode` does."""
        with self._decoding.taken(tenant):
            return _naming(field, lambda: decode(data, width, height, max_pixels=self._max_pixels))

    def decode_mask(
        self,
        data: bytes,
        tenant: str,
        width: int,
        height: int,
        *,
        alpha: Literal["transparent", "opaque"] = "transparent",
        field: str = "/mask",
    ) -> Mask:
        """Raises: as `runtime.pictures.decode` does."""
        with self._decoding.taken(tenant):
            return _naming(field, lambda: decode_mask(data, width, height, alpha=alpha, max_pixels=self._max_pixels))

    def size(self, data: bytes, *, field: str = "/image") -> tuple[int, int]:
        """Width and height of the image in a file, upright. Raises: as `runtime.pictures.decode.size_of` does."""
        return _naming(field, lambda: size_of(data, max_pixels=self._max_pixels))

    def _read(self, source: str, tenant: str) -> bytes:
        if data_uri.is_data_uri(source):
            data = data_uri.decode(source)
            if len(data) > self._max_bytes:
                raise ImageTooLarge(f"An image may have at most {self._max_bytes} bytes.")
            return data
        if uploads.is_reference(source):
            return self._uploaded(uploads.key_of(tenant, source))
        return self._fetcher.fetch(source)

    def _uploaded(self, key: str | None) -> bytes:
        unknown = UploadNotFound("There is no such upload: it was not sent yet, has expired, or is another's.")
        if key is None:
            raise unknown
        try:
            return self._store.get(key, limit=self._max_bytes)
        except ObjectNotFound:
            raise unknown from None
        except ObjectTooLarge:
            raise ImageTooLarge(f"An image may have at most {self._max_bytes} bytes.") from None


def _naming(field: str, make: Callable[[], Result]) -> Result:
    try:
        return make()
    except RequestError as refused:
        refused.field = refused.field or field
        raise
