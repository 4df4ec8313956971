"""Requests that bring images: from the data URI to the answer, over the fake engine."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from darkroom.errors import Draining, InvalidDimensions, InvalidParameter, Overloaded, StorageFull
from tests.fakes import pictures

PATIENCE = 10


def uri(image: Image.Image | bytes) -> str:
    body = image if isinstance(image, bytes) else pictures.file(image)
    return f"data:image/png;base64,{base64.b64encode(body).decode()}"


SQUARE = Image.new("RGB", (32, 32), "black")
SQUARE.paste((255, 255, 255), (8, 8, 24, 24))
MASK = Image.new("L", (32, 32), 0)
MASK.paste(255, (0, 0, 8, 32))


def pixels(store, image) -> np.ndarray:
    with Image.open(io.BytesIO(store.objects[image.key])) as opened:
        return np.asarray(opened)


@pytest.fixture
def finish(service, admit, turn_until_idle):
    def finish(**fields):
        generation = admit(service, **fields)
        turn_until_idle(service)
        return generation.answer.result(PATIENCE)

    return finish


def test_control_is_shown_and_its_image_stored(finish, store, engine) -> None:
    result = finish(image=uri(SQUARE), control=[{"type": "canny"}], id="one", output_format="jpeg", num_images=2)
    (control,) = result.control_images
    assert (control.key, control.content_type) == ("images/one/control-0.png", "image/png")
    assert [image.key for image in result.images] == ["images/one/0.jpeg", "images/one/1.jpeg"]
    edges = pixels(store, control)
    assert edges.shape == (32, 32, 3)
    assert set(np.unique(edges)) == {0, 255}
    assert not edges[12:20, 12:20].any()
    assert [component for component, _ in engine.controlled] == ["controlnet_canny"] * 4


def test_an_edge_map_is_taken_as_it_is(finish, store) -> None:
    result = finish(image=uri(SQUARE), control=[{"type": "canny", "preprocess": False}])
    assert np.array_equal(pixels(store, result.control_images[0]), np.asarray(SQUARE))


def test_several_controls_each_on_its_image(finish, store, engine) -> None:
    controls = [{"type": "depth", "image": uri(MASK)}, {"type": "canny", "start": 0.5}]
    result = finish(image=uri(SQUARE), control=controls)
    assert [image.key.rpartition("/")[2] for image in result.control_images] == ["control-0.png", "control-1.png"]
    assert np.array_equal(pixels(store, result.control_images[0])[:, :, 0], np.asarray(MASK))
    assert [component for component, _ in engine.controlled].count("controlnet_canny") == 2
    assert [component for component, _ in engine.controlled].count("controlnet_depth") == 4


def test_image_to_image_enters_where_its_strength_says(service, admit, finish, engine) -> None:
    (trajectory,) = admit(service, image=uri(SQUARE), strength=0.5, num_inference_steps=8).trajectories
    assert (trajectory.step, trajectory.steps_left) == (4, 4)
    engine.calls.clear()
    finish(image=uri(SQUARE), strength=0.5, num_inference_steps=8, num_images=3)
    assert engine.encoded_images == 2, "once a request"


def test_strength_decides_how_much_of_the_picture_is_left(finish, store) -> None:
    def distance(strength: float) -> float:
        made = pixels(store, finish(image=uri(SQUARE), strength=strength, num_inference_steps=10).images[0])
        return float(np.abs(made.astype(float) - np.asarray(SQUARE)).mean())

    assert distance(0.1) < distance(0.5) < distance(1.0)


def test_inpainting_changes_nothing_outside_the_masks_reach(finish, store) -> None:
    made = pixels(store, finish(image=uri(SQUARE), mask=uri(MASK)).images[0])
    assert np.array_equal(made[:, 12:], np.asarray(SQUARE)[:, 12:])
    assert (made[:, :8] != np.asarray(SQUARE)[:, :8]).mean() > 0.9


@pytest.mark.parametrize("alpha", ["transparent", "opaque"])
def test_a_mask_with_transparency_is_drawn_again_where_it_says(finish, store, alpha) -> None:
    """It was laid over black: nothing was drawn again, or the inverse, and nobody was told."""
    mask = Image.new("RGBA", (32, 32), (0, 0, 0, 255) if alpha == "transparent" else (0, 0, 0, 0))
    mask.paste((0, 0, 0, 0) if alpha == "transparent" else (0, 0, 0, 255), (0, 0, 8, 32))
    result = finish(image=uri(SQUARE), mask=uri(mask), mask_alpha=alpha)
    made = pixels(store, result.images[0])
    assert np.array_equal(made[:, 12:], np.asarray(SQUARE)[:, 12:])
    assert (made[:, :8] != np.asarray(SQUARE)[:, :8]).mean() > 0.9
    assert [warning.code for warning in result.warnings] == ["mask_alpha"]


def test_a_mask_is_scaled_to_lie_over_its_image(finish, store) -> None:
    result = finish(image=uri(SQUARE), mask=uri(MASK.resize((64, 64))))
    assert np.array_equal(pixels(store, result.images[0])[:, 12:], np.asarray(SQUARE)[:, 12:])
    assert [(warning.code, warning.detail) for warning in result.warnings] == [
        ("mask_scaled", "mask, 64x64, was scaled to lie over image, 32x32.")
    ]


def test_a_mask_of_another_shape_than_its_image_is_refused(service, admit) -> None:
    with pytest.raises(InvalidDimensions, match="mask, 32x48, must have the shape of image, 32x32") as refused:
        admit(service, image=uri(SQUARE), mask=uri(MASK.resize((32, 48))))
    assert refused.value.field == "/mask"


@pytest.mark.parametrize(
    ("size", "made", "warned"),
    [
        ((32, 64), (32, 64), []),
        ((64, 32), (64, 32), []),
        ((44, 66), (24, 40), ["image_cropped"]),
        ((640, 1280), (24, 48), []),
    ],
)
def test_without_a_size_an_image_keeps_its_own(finish, size, made, warned) -> None:
    """A 128x256 image was cropped to 128x128 in silence."""
    for use in ({"strength": 0.5}, {"control": [{"type": "canny"}]}):
        result = finish(image=uri(Image.new("RGB", size)), **use)
        assert (result.images[0].width, result.images[0].height) == made
        assert [warning.code for warning in result.warnings] == warned
    alone = finish(control=[{"type": "canny", "image": uri(Image.new("RGB", size))}])
    assert (alone.images[0].width, alone.images[0].height) == made


def test_an_image_turned_by_its_exif_is_measured_upright(finish) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = pictures.file(Image.new("RGB", (64, 32)), "JPEG", exif=exif)
    result = finish(image=uri(turned), strength=0.5)
    assert (result.images[0].width, result.images[0].height) == (32, 64)


def test_a_crop_to_the_size_that_is_asked_for_is_told(finish) -> None:
    result = finish(image=uri(Image.new("RGB", (64, 32))), strength=0.5, width=32, height=32)
    assert [warning.detail for warning in result.warnings] == ["image, 64x32, was cropped to make 32x32."]


def test_control_and_image_to_image_together_in_a_batch_with_text(service, admit, turn_until_idle, engine) -> None:
    admit(service, num_inference_steps=6, guidance_scale=3.0)
    admit(service, image=uri(SQUARE), strength=0.5, control=[{"type": "canny"}], num_inference_steps=6)
    admit(service, image=uri(SQUARE), control=[{"type": "depth"}], num_inference_steps=6)
    service.loop.turn()
    assert [len(call) for call in engine.calls] == [4], "one call of the UNet"
    assert sorted(len(times) for _, times in engine.controlled) == [1, 1]
    turn_until_idle(service)


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"image": uri(b"GIF"), "strength": 0.5}, "image_format_unsupported", "/image"),
        ({"image": uri(SQUARE), "mask": uri(b"GIF")}, "image_format_unsupported", "/mask"),
        ({"control": [{"type": "canny", "image": uri(b"GIF")}]}, "image_format_unsupported", "/control/image"),
        ({"image": "upload:gone", "strength": 0.5}, "upload_not_found", "/image"),
        ({"image": "http://127.0.0.1/a.png", "strength": 0.5}, "image_url_rejected", "/image"),
    ],
)
def test_images_that_cannot_be_read_are_refused_before_anything_is_queued(service, admit, fields, error, field) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011  (which error is asserted by its code)
        admit(service, **fields)
    assert (refused.value.code, refused.value.field) == (error, field)
    assert service.admission.wait_until_idle(0)


def test_several_controlnets_and_no_word_which(service, admit) -> None:
    with pytest.raises(InvalidParameter, match="Say what the image is for"):
        admit(service, image=uri(SQUARE))


def test_nothing_is_fetched_for_whom_there_is_no_place(build_service, admit) -> None:
    service = build_service(max_queue=1)
    admit(service)
    with pytest.raises(Overloaded):
        admit(service, image=uri(b"not read"), strength=0.5)
    service.admission.drain()
    with pytest.raises(Draining):
        admit(service, image=uri(b"not read"), strength=0.5)


def test_images_that_could_not_be_stored_keep_their_control_image(service, admit, turn_until_idle, store) -> None:
    fields = {"id": "again", "image": uri(SQUARE), "control": [{"type": "canny"}]}
    store.faults = [StorageFull()]
    first = admit(service, **fields)
    turn_until_idle(service)
    assert isinstance(first.answer.exception(PATIENCE), StorageFull)
    service.admission.wait_until_idle(PATIENCE)
    result = admit(service, **fields).answer.result(PATIENCE)
    assert result.control_images[0].key in store.objects


def test_warming_up_runs_every_controlnet(service, engine) -> None:
    service.warm()
    assert {component for component, _ in engine.controlled} == {"controlnet_canny", "controlnet_depth"}
