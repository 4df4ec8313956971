"""Which store a URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.storage import open_store
from darkroom.storage.directory import DirectoryStore
from darkroom.storage.s3 import S3Store


@pytest.mark.parametrize("form", ["file://{}", "{}"])
def test_a_folder_by_its_whole_path(tmp_path: Path, form: str) -> None:
    store = open_store(form.format(tmp_path / "objects"))
    assert isinstance(store, DirectoryStore)
    store.put("a", b"1")
    assert (tmp_path / "objects" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("url", ["file://.darkroom/store", ".darkroom/store"])
def test_a_folder_by_its_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(url).put("a", b"1")
    assert (tmp_path / ".darkroom" / "store" / "a").read_bytes() == b"1"


def test_a_file_url_is_percent_decoded_and_a_plain_path_is_not(tmp_path: Path) -> None:
    for url, folder in (((tmp_path / "a b#c").as_uri(), "a b#c"), (str(tmp_path / "d%20e?f"), "d%20e?f")):
        open_store(url).put("a", b"1")
        assert (tmp_path / folder / "a").is_file()


def test_the_directory_store_signs_with_what_it_is_given(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), public_url="https://images.example", signing_key=b"secret")
    assert store.url("a", expires=60).startswith("https://images.example/objects/a?")


def test_a_bucket() -> None:
    assert isinstance(open_store("s3://bucket/some/prefix/"), S3Store)


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(ValueError, match="no object store for ftp"):
        open_store("ftp://host/folder")
