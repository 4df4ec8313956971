"""What is particular to the directory store: atomic files, symbolic links, full disks and signed URLs."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.errors import DarkroomError, Forbidden, ObjectNotFound, StorageFull, StorageUnavailable, UploadExists
from darkroom.storage.directory import DirectoryStore

NOW = 1_800_000_000.0


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects", public_url="http://host:8080/", signing_key=b"secret", clock=clock)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


# ---- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files are read from /proc")
def test_the_file_is_on_disk_before_its_name_and_the_name_before_the_answer(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def rename(source: Path, target: Path) -> Path:
        done[-1] = "sync file" if done[-1] == f"sync {source.name}" else done[-1]
        done.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    store.put("images/1/0.png", b"PNG")
    assert re.fullmatch("sync [0-9a-f]{32}", done[0])
    assert done[1:] == ["sync objects", "sync images", "rename", "sync 1"]
    done.clear()
    store.put("images/1/1.png", b"PNG")
    assert done == ["sync file", "rename", "sync 1"]


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_failure_at_any_point_leaves_the_old_object_and_nothing_else(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    store.put("a", b"old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path if place == "replace" else os, place, fail)
    with pytest.raises(KeyboardInterrupt):
        store.put("a", b"new")
    assert store.get("a") == b"old"
    assert files(tmp_path) == ["objects/a"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EROFS, StorageUnavailable),
        (errno.EACCES, StorageUnavailable),
        (errno.EIO, StorageUnavailable),
    ],
    ids=lambda value: errno.errorcode.get(value) if isinstance(value, int) else value.code,
)
def test_the_systems_errors_in_ours(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[DarkroomError]
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "said the disk", "/secret/path")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(expected) as failed:
        store.put("a", b"new")
    monkeypatch.undo()
    assert "secret" not in failed.value.detail
    assert not store.exists("a")
    store.put("a", b"recovered")
    assert store.get("a") == b"recovered"


def test_a_place_where_no_folder_can_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable):
        DirectoryStore(tmp_path / "file" / "objects")


def test_a_key_cannot_be_both_an_object_and_a_folder(store: DirectoryStore) -> None:
    store.put("a", b"1")
    with pytest.raises(ValueError, match="through another object"):
        store.put("a/b", b"2")
    with pytest.raises(ValueError, match="through another object"):
        store.put("a/b/c", b"2")
    store.put("c/d", b"3")
    with pytest.raises(ValueError, match="directory of another"):
        store.put("c", b"4")
    assert list(store.keys("")) == ["a", "c/d"]


def test_a_folder_made_by_another_and_deleted_at_once_is_not_in_the_way(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, races = Path.mkdir, [FileExistsError]

    def mkdir(self: Path, *arguments: Any, **options: Any) -> None:
        if self.name == "deep" and races:  # another writer was first, and a delete has emptied and removed it
            raise races.pop()
        real(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    store.put("deep/a", b"1")
    assert not races
    assert store.get("deep/a") == b"1"


def test_readers_see_whole_objects_while_writers_race(store: DirectoryStore, tmp_path: Path) -> None:
    bodies = [bytes([letter]) * (200_000 + letter) for letter in range(4)]
    store.put("raced", bodies[0])

    def write(body: bytes) -> None:
        for _ in range(10):
            store.put("raced", body)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, body) for body in bodies]
        while not all(writer.done() for writer in writers):
            assert store.get("raced") in bodies
        for writer in writers:
            writer.result()
    assert files(tmp_path) == ["objects/raced"]


def test_what_a_killed_writer_left_is_invisible_and_swept_after_a_day(tmp_path: Path, clock: Clock) -> None:
    root = tmp_path / "objects"
    DirectoryStore(root, clock=clock).put("a", b"1")
    left = root / ".partial" / "tmpleft"
    left.write_bytes(b"half an obj")
    os.utime(left, (NOW, NOW))
    clock.now = NOW + 3600
    assert list(DirectoryStore(root, clock=clock).keys("")) == ["a"]
    assert left.exists()  # its writer may yet live
    clock.now = NOW + 86_401
    DirectoryStore(root, clock=clock)
    assert not left.exists()


def test_a_file_is_served_in_place(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("models/unet.bin", b"weights")
    assert store.fetch("models/unet.bin", tmp_path / "unused") == tmp_path / "objects" / "models" / "unet.bin"


# ---- symbolic links -----------------------------------------------------------------------------------------------


def test_links_that_lead_outside_are_never_followed(store: DirectoryStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root = tmp_path / "objects"
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "sub").mkdir()
    (root / "sub" / "deeper").symlink_to("../../outside")

    for key in ("folder/secret", "file", "sub/deeper/secret"):
        assert not store.exists(key)
        with pytest.raises(ObjectNotFound):
            store.get(key)
        with pytest.raises(ObjectNotFound):
            store.fetch(key, tmp_path / "fetched")
    for key in ("folder/new", "sub/deeper/new", "folder/new/deep"):
        with pytest.raises(ValueError, match="symbolic link"):
            store.put(key, b"escaped")
    store.delete("folder/secret")
    assert [list(store.keys(prefix)) for prefix in ("", "folder/", "sub/deeper/")] == [[], [], []]
    assert files(outside) == ["secret"]

    store.put("file", b"mine")  # replaces the link, not what it led to
    assert store.get("file") == b"mine"
    assert (outside / "secret").read_bytes() == b"secret"


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "objects").symlink_to(tmp_path / "disk")
    store = DirectoryStore(tmp_path / "objects")
    store.put("a/b", b"1")
    assert store.get("a/b") == b"1"
    assert list(store.keys("a/")) == ["a/b"]


# ---- signed URLs --------------------------------------------------------------------------------------------------


def parts(url: str) -> tuple[str, str, str]:
    split = urlsplit(url)
    query = parse_qs(split.query)
    return unquote(split.path).removeprefix("/objects/"), query["expires"][0], query["signature"][0]


def test_a_signed_url_works_until_it_expires(store: DirectoryStore) -> None:
    url = store.url("images/a b/é?.png", expires=60)
    assert url.startswith("http://host:8080/objects/images/a%20b/%C3%A9%3F.png?expires=1800000060&signature=")
    key, expires, signature = parts(url)
    assert key == "images/a b/é?.png"
    store.verify(key, expires, signature, NOW)
    store.verify(key, expires, signature, NOW + 59.9)
    with pytest.raises(Forbidden):
        store.verify(key, expires, signature, NOW + 60)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("key", lambda key: key.replace("0", "1")),
        ("key", lambda key: f"{key}\n"),
        ("key", lambda _: "\ud800"),
        ("expires", lambda expires: str(int(expires) + 1)),
        ("expires", lambda expires: f"0{expires}"),
        ("expires", lambda expires: f"{expires}\n"),
        ("expires", lambda _: "never"),
        ("signature", lambda signature: signature[:-1]),
        ("signature", lambda signature: signature + "0"),
        ("signature", lambda _: ""),
        ("signature", lambda _: "\ud800"),
    ],
)
def test_a_changed_url_is_forbidden(store: DirectoryStore, part: str, change: Callable[[str], str]) -> None:
    key, expires, signature = parts(store.url("images/1/0.png", expires=60))
    sent = {"key": key, "expires": expires, "signature": signature}
    store.verify(**sent, now=NOW)
    with pytest.raises(Forbidden):
        store.verify(**sent | {part: change(sent[part])}, now=NOW)


@settings(max_examples=50)
@given(key=st.text(), expires=st.text(), signature=st.text())
def test_whatever_a_stranger_sends_is_forbidden(
    tmp_path_factory: pytest.TempPathFactory, key: str, expires: str, signature: str
) -> None:
    store = DirectoryStore(tmp_path_factory.getbasetemp(), signing_key=b"secret")
    with pytest.raises(Forbidden):
        store.verify(key, expires, signature, NOW)


def test_another_key_signs_otherwise(tmp_path: Path, store: DirectoryStore) -> None:
    other = DirectoryStore(tmp_path / "objects", signing_key=b"other", clock=Clock())
    with pytest.raises(Forbidden):
        other.verify(*parts(store.url("a", expires=60)), NOW)


def test_without_a_signing_key_nothing_is_signed_and_nothing_passes(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "objects")
    with pytest.raises(ValueError, match="signing key"):
        store.url("a", expires=60)
    forger = DirectoryStore(tmp_path / "objects", signing_key=b"\0", clock=Clock())
    with pytest.raises(Forbidden):
        store.verify(*parts(forger.url("a", expires=60)), NOW)


@pytest.mark.parametrize("change", [{"size": 6}, {"size": -1}, {"content_type": "text/html"}, {"content_type": ""}])
def test_an_upload_url_holds_for_its_size_and_type(store: DirectoryStore, change: dict[str, Any]) -> None:
    given = store.upload_url("uploads/a", size=5, content_type="image/png", expires=60)
    said: dict[str, Any] = {"size": 5, "content_type": "image/png"}
    store.verify_upload(*parts(given.url), NOW + 59.9, **said)
    for late_or_other in ((NOW + 60, said), (NOW, said | change)):
        with pytest.raises(Forbidden):
            store.verify_upload(*parts(given.url), late_or_other[0], **late_or_other[1])
    with pytest.raises(Forbidden):
        store.verify(*parts(given.url), NOW)
    with pytest.raises(Forbidden):
        store.verify_upload(*parts(store.url("uploads/a", expires=60)), NOW, **said)


def test_an_object_that_comes_bit_by_bit_is_there_once_it_is_whole(store: DirectoryStore, tmp_path: Path) -> None:
    with store.writing("uploads/a") as writing:
        writing.write(b"one ")
        writing.write(b"two")
        assert not store.exists("uploads/a")
        writing.commit(replace=False)
    assert store.get("uploads/a") == b"one two"
    with store.writing("uploads/a") as again:
        again.write(b"another")
        with pytest.raises(UploadExists):
            again.commit(replace=False)
    with store.writing("uploads/b") as cut_off:
        cut_off.write(b"one")
    assert store.get("uploads/a") == b"one two"
    assert files(tmp_path) == ["objects/uploads/a"]


def test_it_is_taken_once_where_files_have_no_links_too(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(*_: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(Path, "hardlink_to", none_here)
    for body, taken in ((b"one", True), (b"two", False)):
        with store.writing("a") as writing:
            writing.write(body)
            with contextlib.nullcontext() if taken else pytest.raises(UploadExists):
                writing.commit(replace=False)
    assert store.get("a") == b"one"


def test_who_may_read_objects_is_what_the_process_says(store: DirectoryStore, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        store.put("images/a", b"PNG")
    finally:
        os.umask(before)
    assert (tmp_path / "objects/images/a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "objects/images").stat().st_mode & 0o777 == 0o700
