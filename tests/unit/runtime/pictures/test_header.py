"""The size in a file's first bytes is the size that Pillow finds."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom.errors import DarkroomError, ImageFormatUnsupported, ImageInvalid
from runtime.pictures.header import Header, read_header
from tests.fakes.pictures import file, quarters

OPTIONS = [
    ("PNG", {}),
    ("PNG", {"exif": b"Exif\0\0"}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True, "icc_profile": b"p" * 70_000, "comment": b"FF" * 10}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
]


@pytest.mark.parametrize(("form", "options"), OPTIONS)
@settings(max_examples=20, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_every_size(form: str, options: dict[str, object], width: int, height: int) -> None:
    data = file(quarters(width, height), form, **options)
    assert read_header(data) == Header(form, width, height)
    assert Image.open(io.BytesIO(data)).size == (width, height)


def test_padding_between_a_jpegs_segments() -> None:
    data = file(quarters(), "JPEG")
    assert read_header(data[:2] + b"\xff\xff\xff" + data[2:]) == Header("JPEG", 64, 48)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\0\x02\0",
        b"\xff\xd8\xff\xda\0\x02",
        b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\0",
        b"\x89PNG\r\n\x1a\n" + bytes(30),
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(13),
        b"RIFF\0\0\0\0WEBP",
        b"RIFF\0\0\0\0WEBPVP8 " + bytes(30),
        b"RIFF\0\0\0\0WEBPVP8L" + bytes(30),
    ],
)
def test_a_header_that_says_nothing(data: bytes) -> None:
    with pytest.raises(ImageInvalid):
        read_header(data)


@given(st.binary() | st.binary().map(b"\xff\xd8\xff".__add__) | st.binary().map(b"RIFF....WEBPVP8".__add__))
def test_any_bytes(data: bytes) -> None:
    try:
        header = read_header(data)
    except DarkroomError as error:
        assert isinstance(error, ImageInvalid | ImageFormatUnsupported)  # noqa: PT017
    else:
        assert header.width > 0
        assert header.height > 0
