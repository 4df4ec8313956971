"""multipart/form-data (RFC 7578), as browsers and HTTP clients send files, from a body that is held already."""

from __future__ import annotations

import math
from collections.abc import Mapping

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from darkroom.errors import InvalidParameter, InvalidUnicode, MalformedForm, UnsupportedMediaType

_MOST_PARTS = 64
_NAME = 100


def read_form(body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """Texts and files by the name of their field. A field that is empty is as if it had not been sent.

    Raises: UnsupportedMediaType, MalformedForm, InvalidParameter (a text twice, too many parts), InvalidUnicode.
    """
    content_type = headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMediaType("The body must be a form with files: multipart/form-data.")
    texts: dict[str, str] = {}
    files: dict[str, list[bytes]] = {}
    parts = 0

    def counted() -> None:
        nonlocal parts
        parts += 1
        if parts > _MOST_PARTS:
            raise InvalidParameter(f"A form may have at most {_MOST_PARTS} parts.")

    def on_field(field: Field) -> None:
        counted()
        try:
            name, text = (field.field_name or b"").decode(), (field.value or b"").decode()
        except UnicodeDecodeError:
            raise InvalidUnicode("A field of the form is not UTF-8.") from None
        if "\0" in text:
            raise InvalidUnicode("Text may not hold NUL.", field=f"/{name[:_NAME]}")
        if name in texts:
            raise InvalidParameter("A field of the form occurs more than once.", field=f"/{name[:_NAME]}")
        if text:
            texts[name] = text

    def on_file(file: File) -> None:
        counted()
        held = file.file_object
        held.seek(0)
        name = (file.field_name or b"").decode(errors="replace")
        if content := held.read():
            files.setdefault(name, []).append(content)

    kind, parameters = parse_options_header(content_type.encode("latin-1"))
    ended: list[bool] = []
    config = {"MAX_MEMORY_FILE_SIZE": math.inf, "UPLOAD_ERROR_ON_BAD_CTE": True}
    try:
        parser = FormParser(
            kind.decode("latin-1"),
            on_field,
            on_file,
            on_end=lambda: ended.append(True),
            boundary=parameters.get(b"boundary"),
            config=config,
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        ended.clear()
    if not ended:
        raise MalformedForm("The body is not the form that its Content-Type says, or it is cut short.")
    return texts, files
