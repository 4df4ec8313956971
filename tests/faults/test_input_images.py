"""Rows 44 to 50: image files and data URIs of strangers."""

from __future__ import annotations

import base64
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom.errors import (
    DarkroomError,
    ImageAnimated,
    ImageFormatUnsupported,
    ImageInvalid,
    ImageTooLarge,
    ImageUrlRejected,
    InvalidBase64,
    InvalidDimensions,
)
from darkroom.fetch.fetcher import Fetcher
from darkroom.storage.directory import DirectoryStore
from runtime.pictures.decode import decode, decode_mask
from runtime.pictures.sources import InputImages
from tests.fakes import pictures
from tests.fakes.pictures import BLUE, GREEN, RED, WHITE, file, quarters

SIZE = (64, 48)


def refused(kind: type[DarkroomError], data: bytes, **given: Any) -> None:
    for read in (decode, decode_mask):
        with pytest.raises(kind) as error:
            read(data, *SIZE, **given)
        assert type(error.value) is kind


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """The colours of the four quarters, row by row."""
    height, width = pixels.shape[0] // 4, pixels.shape[1] // 4
    return [tuple(pixels[y, x].tolist()) for y in (height, 3 * height) for x in (width, 3 * width)]


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_row_44_a_decompression_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("it was opened")

    bomb = pictures.bomb()
    assert len(bomb) < 100_000
    monkeypatch.setattr(Image, "open", opened)
    refused(ImageTooLarge, bomb)
    refused(ImageTooLarge, pictures.png_of_size(2**31 - 1, 2**31 - 1))
    refused(ImageTooLarge, file_of_jpeg_size(65_000, 65_000))
    refused(ImageTooLarge, webp_of_size(16_384, 16_384))
    refused(ImageTooLarge, file(quarters()), max_pixels=64 * 48 - 1)


def file_of_jpeg_size(width: int, height: int) -> bytes:
    """A JPEG whose header says another size."""
    data = bytearray(file(quarters(), "JPEG"))
    place = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, place + 5, height, width)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_row_44_a_header_that_lies_is_found_out() -> None:
    png = pictures.png_of_size(64, 48, bytes(100))
    refused(ImageInvalid, png)
    webp = bytearray(file(quarters(), "WEBP", exif=Image.Exif().tobytes() or b"Exif\0\0"))
    webp[24:27] = (99).to_bytes(3, "little")  # the canvas is not the frame's size
    refused(ImageInvalid, bytes(webp))


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be decoded."""
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))


@pytest.mark.usefixtures("unopened")
def test_row_44_a_png_of_empty_chunks_costs_no_decoding() -> None:
    """1.7 million of them took 4.4 s of a slot that all share."""
    whole = file(quarters())
    head, rest = whole[:33], whole[33:]
    for kind in (b"IDAT", b"tIME", b"aaAa"):
        refused(ImageInvalid, head + pictures.png_chunk(kind, b"") * 1_700_000 + rest)
    refused(ImageInvalid, head + pictures.png_chunk(b"IDAT", b"") * 20_001)


def test_row_44_a_png_in_many_small_pieces_is_one() -> None:
    image = file(Image.effect_noise((1024, 1024), 100).convert("RGB"))
    place, pieces = 8, []
    while place < len(image):
        (length,) = struct.unpack_from(">I", image, place)
        kind, body = image[place + 4 : place + 8], image[place + 8 : place + 8 + length]
        parts = [body[start : start + 512] for start in range(0, len(body), 512)] if kind == b"IDAT" else [body]
        pieces += [pictures.png_chunk(kind, part) for part in parts]
        place += 12 + length
    assert len(pieces) > 3000
    assert (decode(image[:8] + b"".join(pieces), *SIZE) == decode(image, *SIZE)).all()


@pytest.mark.usefixtures("unopened")
def test_row_44_a_webp_of_empty_chunks_costs_no_decoding() -> None:
    whole = file(quarters(), "WEBP")
    many = whole[12:] + (b"EXIF" + bytes(4)) * 1_000_000
    refused(ImageInvalid, b"RIFF" + struct.pack("<I", 4 + len(many)) + b"WEBP" + many)


def progressive(width: int, height: int, scans: int) -> bytes:
    """A small file: one scan of grey, over and over."""
    image = file(Image.new("L", (width, height), 128), "JPEG", progressive=True)
    start, end = image.index(b"\xff\xda"), image.rindex(b"\xff\xda")
    return image[:end] + image[end:-2] * (scans - image[start:end].count(b"\xff\xda")) + image[-2:]


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize(("side", "scans"), [(5000, 99), (5000, 13), (2000, 99), (64, 101)])
def test_row_44_a_progressive_jpeg_whose_scans_pass_over_too_many_pixels(side: int, scans: int) -> None:
    """151 KB took 1.6 s."""
    refused(ImageInvalid, progressive(side, side, scans))


@pytest.mark.parametrize(("side", "quality"), [(4990, 95), (500, 50)])
def test_row_44_a_progressive_jpeg_as_encoders_write_it(side: int, quality: int) -> None:
    decode(file(Image.new("RGB", (side, side), "red"), "JPEG", progressive=True, quality=quality), *SIZE)


def test_row_44_bombs_in_metadata_and_in_scans() -> None:
    whole = file(quarters())
    text = pictures.png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8 << 20)))
    refused(ImageInvalid, whole[:33] + text + whole[33:])
    jpeg = file(quarters(), "JPEG", progressive=True)
    scan = jpeg.index(b"\xff\xda")
    refused(ImageInvalid, jpeg[:-2] + jpeg[scan : scan + 20] * 200 + jpeg[-2:])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.3, 0.5, 0.9])
def test_row_45_cut_short(form: str, part: float) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    whole = file(noise, form)
    refused(ImageInvalid, whole[: max(16, int(part * len(whole)))])


def test_row_45_every_cut_and_every_flipped_byte_is_an_answer() -> None:
    """Whatever the bytes: an image or one of our own errors, never another exception."""
    for form in ("PNG", "JPEG", "WEBP"):
        whole = file(quarters(16, 12), form, exif=oriented(6))
        for place in range(len(whole)):
            for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
                with suppress(ImageInvalid, ImageFormatUnsupported, ImageTooLarge, InvalidDimensions, ImageAnimated):
                    assert decode(damaged, 16, 16, max_pixels=10_000).shape == (16, 16, 3)


DISGUISED = {
    "nothing": b"",
    "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "HTML": b"<!doctype html><title>image.png</title>",
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "PSD": b"8BPS\0\1" + bytes(100),
    "BMP": file(quarters(), "BMP"),
    "TIFF": file(quarters(), "TIFF"),
    "ICO": file(quarters(), "ICO"),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n",
    "PPM": file(quarters(), "PPM"),
    "AVIF": b"\0\0\0\x20ftypavif" + bytes(100),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "PDF": b"%PDF-1.7\n",
    "GIF of one frame": file(quarters(), "GIF"),
    "GIF, cut": file(quarters(), "GIF")[:20],
    "RIFF that is no WebP": b"RIFF\0\0\0\0WAVEfmt " + bytes(100),
}


@pytest.mark.parametrize("disguise", DISGUISED)
def test_row_46_other_formats_in_disguise(disguise: str) -> None:
    refused(ImageFormatUnsupported, DISGUISED[disguise])


# ---- what is converted --------------------------------------------------------------------------------------------


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
        (9, [RED, GREEN, BLUE, WHITE]),
    ],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_row_47_exif_rotation(form: str, orientation: int, seen: list[tuple[int, ...]]) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(form, {})
    data = file(quarters(64, 64), form, exif=oriented(orientation), **options)
    near = np.abs(np.array(corners(decode(data, 64, 64))) - np.array(seen))
    assert near.max() <= 2


def test_row_47_damaged_exif_does_no_harm() -> None:
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*" + b"\xff" * 40):
        assert corners(decode(file(quarters(), "WEBP", exif=exif, lossless=True), *SIZE))[0] == RED


def test_row_47_cmyk() -> None:
    data = file(quarters().convert("CMYK"), "JPEG", quality=100, subsampling=0)
    near = np.abs(np.array(corners(decode(data, *SIZE))) - np.array([RED, GREEN, BLUE, WHITE]))
    assert near.max() <= 3


def test_row_47_sixteen_bits() -> None:
    values = np.repeat(np.array([[0, 257, 32768, 65535]], np.uint16), 16, axis=1).repeat(48, axis=0)
    pixels = decode(file(Image.fromarray(values)), *SIZE)
    assert pixels[24, [8, 24, 40, 56], 0].tolist() == [0, 1, 128, 255]
    assert (pixels == pixels[..., :1]).all()
    deep = b"".join(b"\0" + b"\xff\xff\x80\x00\x00\x00" * 64 for _ in range(48))
    rgb = decode(pictures.png_of_size(64, 48, zlib.compress(deep), bits=16), *SIZE)
    assert tuple(rgb[0, 0]) == (255, 128, 0)


def test_row_47_alpha_is_laid_over_white_and_in_a_mask_says_what_is_drawn_again() -> None:
    image = quarters().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SIZE).point(lambda value: 0 if value < 128 else 255))
    assert corners(decode(file(image), *SIZE)) == [WHITE, WHITE, BLUE, WHITE]
    corner = ([12, 12, 36, 36], [16, 48, 16, 48])
    mask = decode_mask(file(image), *SIZE)
    assert (mask.pixels[corner].tolist(), mask.by_alpha) == ([255, 255, 0, 0], True)
    assert decode_mask(file(image), *SIZE, alpha="opaque").pixels[corner].tolist() == [0, 0, 255, 255]
    image.putalpha(255)
    mask = decode_mask(file(image), *SIZE)
    assert (mask.pixels[corner].tolist(), mask.by_alpha) == ([0, 255, 0, 255], False)
    half = Image.new("RGBA", SIZE, (0, 0, 0, 128))
    assert tuple(decode(file(half), *SIZE)[0, 0]) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_row_47_other_modes(mode: str) -> None:
    black_and_white = quarters().convert("L").point(lambda value: 255 if value > 100 else 0)
    data = file(black_and_white.convert("RGBA").convert(mode) if mode != "1" else black_and_white.convert("1"))
    assert corners(decode(data, *SIZE)) == [(0, 0, 0), WHITE, (0, 0, 0), WHITE]


def test_row_47_a_palette_with_transparency() -> None:
    image = quarters().quantize(4)
    data = file(image, transparency=image.getpixel((0, 0)))
    assert corners(decode(data, *SIZE)) == [WHITE, GREEN, BLUE, WHITE]


def test_row_47_the_centre_is_kept_where_the_aspect_differs() -> None:
    wide = Image.new("RGB", (300, 100), RED)
    wide.paste(Image.new("RGB", (100, 100), BLUE), (100, 0))
    pixels = decode(file(wide), 64, 64)
    assert pixels.shape == (64, 64, 3)
    assert (pixels[4:-4, 4:-4] == BLUE).all()
    assert decode(file(wide), 96, 32).shape == (32, 96, 3)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_row_48_animations(form: str) -> None:
    refused(ImageAnimated, pictures.animation(form))


def test_row_48_a_still_of_several_pictures_is_no_animation() -> None:
    several = file(quarters(), "MPO", save_all=True, append_images=[quarters()], quality=100, subsampling=0)
    assert several.startswith(b"\xff\xd8\xff")
    assert np.abs(decode(several, *SIZE)[0, 0].astype(int) - RED).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1), (7, 7), (8, 65), (1000, 100), (4096, 16)])
def test_row_49_too_small_or_too_long(size: tuple[int, int]) -> None:
    refused(InvalidDimensions, file(Image.new("RGB", size)))


@pytest.mark.parametrize("size", [(8, 8), (8, 64), (800, 100)])
def test_row_49_just_large_enough(size: tuple[int, int]) -> None:
    assert decode(file(Image.new("RGB", size)), *SIZE).shape == (48, 64, 3)


# ---- data URIs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path) -> InputImages:
    store = DirectoryStore(tmp_path / "store")
    return InputImages(Fetcher(), store, max_bytes=10_000, max_pixels=1_000_000)


PNG = base64.b64encode(file(quarters())).decode()


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "a",
        "ab",
        "abc",
        "abc=d",
        "abcd=",
        "====",
        "ab==cdef",
        PNG[:-1] + "é",
        PNG + "=",
        PNG + "\n",
        " " + PNG,
        PNG[:8] + "\r\n" + PNG[8:],
        PNG.replace("/", "_", 1),
        PNG[:-2] + "%3D",
    ],
)
def test_row_50_bad_base64(images: InputImages, text: str) -> None:
    with pytest.raises(InvalidBase64) as error:
        images.read(f"data:image/png;base64,{text}", "alice")
    assert error.value.field == "/image"


@pytest.mark.parametrize(
    "uri", ["data:", "data:,a", "data:text/plain;base64,YQ==", "data:;base64,YQ==", "data:image/png"]
)
def test_row_35_data_that_is_no_image(images: InputImages, uri: str) -> None:
    with pytest.raises(ImageUrlRejected):
        images.read(uri, "alice")


def test_row_50_an_image_that_is_not_in_base64(images: InputImages) -> None:
    for uri in ("data:image/png,%89PNG", "data:image/svg+xml;utf8,<svg/>", f"data:image/png;base64;a=b,{PNG}"):
        with pytest.raises(ImageUrlRejected):
            images.read(uri, "alice")


@pytest.mark.parametrize("head", ["data:image/png;base64,", "DATA:IMAGE/PNG;BASE64,", "data:image/png;a=b;base64,"])
def test_row_50_good_base64(images: InputImages, head: str) -> None:
    assert corners(images.decode(images.read(head + PNG, "alice"), "alice", *SIZE)) == [RED, GREEN, BLUE, WHITE]


def test_row_50_a_data_uri_has_the_cap_of_every_image(images: InputImages) -> None:
    text = base64.b64encode(bytes(10_001)).decode()
    with pytest.raises(ImageTooLarge):
        images.read(f"data:image/png;base64,{text}", "alice")
