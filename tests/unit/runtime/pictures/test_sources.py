"""Where a request's images come from."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.errors import ImageInvalid, ImageTooLarge, ImageUrlRejected, StorageUnavailable, UploadNotFound
from darkroom.images import uploads
from runtime.config import RuntimeConfig
from runtime.pictures.canny import canny
from runtime.pictures.sources import InputImages
from tests.fakes.pictures import file, quarters
from tests.fakes.remote import serving

PNG = file(quarters())
UPLOAD = "6b49d200-c03671d11d968e76d176709096fe052e"  # as uploads.new_id makes them


@pytest.fixture
def images(store) -> InputImages:
    return InputImages.of(RuntimeConfig(max_image_bytes=10_000), store)


def test_an_upload_is_its_tenants(images, store) -> None:
    store.put(uploads.key("alice", UPLOAD), PNG)
    assert images.read(uploads.reference(UPLOAD), "alice") == PNG
    with pytest.raises(UploadNotFound) as unknown:
        images.read(uploads.reference(UPLOAD), "bob", field="/mask")
    assert unknown.value.field == "/mask"
    with pytest.raises(UploadNotFound) as never_sent:
        images.read(uploads.reference(uploads.new_id(1_800_000_000)), "bob", field="/mask")
    assert unknown.value.problem() == never_sent.value.problem()


@pytest.mark.parametrize("upload_id", ["", "x", "../bob/" + UPLOAD, UPLOAD + "/", UPLOAD.upper() + "Z", f"{UPLOAD}\n"])
def test_no_id_leads_out_of_its_folder(images, store, upload_id: str) -> None:
    with pytest.raises(UploadNotFound):
        images.read(uploads.reference(upload_id), "alice")
    assert uploads.key_of("alice", uploads.reference(upload_id)) is None


def test_an_upload_has_the_cap_of_every_image(images, store) -> None:
    store.put(uploads.key("alice", UPLOAD), bytes(10_001))
    with pytest.raises(ImageTooLarge):
        images.read(uploads.reference(UPLOAD), "alice")


def test_a_store_that_is_down_is_no_fault_of_the_caller(images, store, monkeypatch) -> None:
    def down(*_: object, **__: object) -> bytes:
        raise StorageUnavailable

    monkeypatch.setattr(store, "get", down)
    with pytest.raises(StorageUnavailable):
        images.read(uploads.reference(UPLOAD), "alice")


def test_a_url_follows_the_configuration(store) -> None:
    with serving() as remote:
        remote.serves("/a.png", PNG)
        url = f"http://127.0.0.1:{remote.port}/a.png"
        trusting = InputImages.of(RuntimeConfig(fetch_allow=f" 127.0.0.1:{remote.port}, other:80"), store)
        assert trusting.read(url, "alice") == PNG
        remote.serves("/a.png", bytes(2000))
        small = InputImages.of(RuntimeConfig(fetch_allow=f"127.0.0.1:{remote.port}", max_image_bytes=1999), store)
        with pytest.raises(ImageTooLarge):
            small.read(url, "alice")
        with pytest.raises(ImageUrlRejected) as refused:
            InputImages.of(RuntimeConfig(), store).read(url, "alice")
        assert refused.value.field == "/image"
        assert len(remote.requests) == 2


def test_the_pixel_cap_follows_the_configuration(store) -> None:
    few = InputImages.of(RuntimeConfig(max_image_pixels=64 * 48 - 1), store)
    with pytest.raises(ImageTooLarge):
        few.decode(PNG, "alice", 64, 48)
    with pytest.raises(ImageTooLarge) as refused:
        few.decode_mask(PNG, "alice", 64, 48)
    assert refused.value.field == "/mask"


def test_pixels_masks_and_edges(images) -> None:
    pixels = images.decode(PNG, "alice", 64, 48)
    assert np.array_equal(pixels, np.asarray(quarters()))
    mask = images.decode_mask(PNG, "alice", 64, 48).pixels
    assert mask.shape == (48, 64)
    assert (mask[36, 16], mask[36, 48], mask[12, 16], mask[12, 48]) == (0, 255, 0, 255)  # green is light, red is not
    drawn = canny(pixels, 100, 200)
    assert drawn.shape == (48, 64)
    assert set(np.unique(drawn)) == {0, 255}
    assert drawn[:, 31:33].any(axis=1).sum() > 40
    with pytest.raises(ImageInvalid):
        images.decode(PNG[:-40], "alice", 64, 48)
