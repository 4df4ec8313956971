"""Forms with files, made by an HTTP client, and damaged."""

from __future__ import annotations

import httpx
import pytest

from api.clients.forms import read_form
from darkroom.errors import InvalidParameter, InvalidUnicode, MalformedForm, RequestError, UnsupportedMediaType

PNG = bytes(range(256)) * 8000  # larger than what the library would send to a temporary file


def form(**given: object) -> tuple[bytes, dict[str, str]]:
    request = httpx.Request("POST", "http://host", **given)  # type: ignore[arg-type]
    return request.read(), {"content-type": request.headers["content-type"]}


def test_texts_and_files() -> None:
    files = [("image[]", ("a.png", PNG)), ("image[]", ("b.png", b"b")), ("mask", ("m.png", b"m")), ("none", ("", b""))]
    texts, given = read_form(*form(data={"prompt": "ein Hünd 🐕", "n": "2", "user": ""}, files=files))
    assert texts == {"prompt": "ein Hünd 🐕", "n": "2"}
    assert given == {"image[]": [PNG, b"b"], "mask": [b"m"]}


@pytest.mark.parametrize("cut", [3, 10, 100, 2_000_000])
def test_one_that_is_cut_short_is_refused(cut: int) -> None:
    body, headers = form(data={"prompt": "a"}, files={"image": PNG})
    with pytest.raises(MalformedForm):
        read_form(body[:-cut], headers)


@pytest.mark.parametrize(
    ("content_type", "refusal"),
    [
        ("application/json", UnsupportedMediaType),
        ("", UnsupportedMediaType),
        ("multipart/form-data", MalformedForm),
        ("multipart/form-data; boundary=", MalformedForm),
        ("multipart/form-data; boundary=another", MalformedForm),
        ("multipart/form-data; boundary=" + "b" * 5000, MalformedForm),
        ('multipart/form-data; boundary="\x00\xff"', MalformedForm),
    ],
)
def test_other_types(content_type: str, refusal: type[RequestError]) -> None:
    body, _ = form(files={"image": PNG})
    with pytest.raises(refusal):
        read_form(body, {"content-type": content_type})


def test_what_is_in_it_is_bounded_and_said_once() -> None:
    with pytest.raises(InvalidParameter, match="at most 64 parts"):
        read_form(*form(files=[(f"f{number}", b"") for number in range(65)]))
    with pytest.raises(InvalidParameter, match="more than once") as refused:
        read_form(*form(data={"prompt": ["a", "b"]}, files={"image": b"i"}))
    assert refused.value.field == "/prompt"
    for wild in (b"\xff", b"a\0b"):
        with pytest.raises(InvalidUnicode):
            read_form(*form(data={"prompt": wild}, files={"image": b"i"}))


def test_every_byte_changed_is_a_form_or_a_refusal() -> None:
    body, headers = form(data={"prompt": "a dog"}, files={"image": b"image"})
    for place in range(len(body)):
        for value in (0, 10, 13, 45, 255):
            changed = body[:place] + bytes([value]) + body[place + 1 :]
            try:
                read_form(changed, headers)
            except RequestError:
                continue
