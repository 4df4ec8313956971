"""Pages of mapped files leave memory, and not a byte of what is in them changes."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engines import mapped
from runtime.engines.mapped import let_go
from tests.resident import resident

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mapped")
CONTENT = bytes(range(256)) * 16 * 64  # of 64 pages


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "unet of 2.bin"
    with path.open("wb") as opened:
        opened.write(CONTENT)
        opened.flush()
        os.fsync(opened.fileno())  # a page that is still to be written cannot leave
    return path


@pytest.fixture(params=[mmap.ACCESS_READ, mmap.ACCESS_COPY])
def pages(request: pytest.FixtureRequest, file: Path) -> Iterator[mmap.mmap]:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=request.param) as pages:
        assert pages[:] == CONTENT
        yield pages


def gone(named: Path, file: Path) -> bool:
    """Whether all pages leave. It is an advice: a page that the system is busy with stays, and leaves the next time."""
    for _ in range(1000):
        let_go([named])
        if resident(file) == 0:
            return True
    return False


def test_pages_leave_memory_and_come_back_as_they_were(file: Path, pages: mmap.mmap) -> None:
    assert resident(file) == len(CONTENT) >> 10
    assert gone(file, file)
    assert pages[:] == CONTENT


def test_by_another_name_of_the_file(file: Path, pages: mmap.mmap) -> None:
    link = file.parent / "link.bin"
    link.symlink_to(file)
    assert gone(link, file)
    assert pages[:] == CONTENT


def test_other_files_stay(file: Path, pages: mmap.mmap, tmp_path: Path) -> None:
    let_go([])
    let_go([tmp_path / "absent", file.with_suffix("")])
    assert resident(file) == len(CONTENT) >> 10
    assert pages[:] == CONTENT


def test_what_was_written_stays(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as pages:
        pages[4096:4099] = b"new"
        let_go([file])
        assert pages[4096:4099] == b"new"
    assert file.read_bytes() == CONTENT


def test_memory_that_another_thread_maps_there_meanwhile_keeps_its_content(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mapped was read, the file is unmapped, and anonymous memory takes its place before the advice comes."""
    with mmap.mmap(-1, len(CONTENT), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as anonymous:
        anonymous[:] = CONTENT
        start = ctypes.addressof(ctypes.c_char.from_buffer(anonymous))
        before = file.parent / "maps"
        before.write_text(f"{start:x}-{start + len(CONTENT):x} r--s 00000000 fe:00 1 {file}\n")
        monkeypatch.setattr(mapped, "_PROCESS", file.parent)
        let_go([file])
        assert anonymous[:] == CONTENT


def test_where_nothing_says_what_is_mapped(file: Path, pages: mmap.mmap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_PROCESS", file.parent / "absent")
    let_go([file])
    assert resident(file) == len(CONTENT) >> 10
    assert pages[:] == CONTENT
