"""The disk tier: whole files within a budget, verified on the way back, and a place for each process."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.cache.disk import LatentDisk
from runtime.cache.entry import Damaged, pack
from runtime.cache.eviction import Scored


def oldest() -> Scored:
    """The oldest goes first."""
    return Scored(lambda account: account.order)


@pytest.fixture
def disk(tmp_path: Path):
    found = LatentDisk(tmp_path, "v1", 1 << 20, oldest())
    yield found
    found.close()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_an_entry_comes_back(disk, make_entry, tmp_path) -> None:
    assert disk.write(make_entry("one", at=3))
    assert files(tmp_path) == ["v1-one-4.latents"]
    assert disk.read("one-4").latents[0, 0, 0] == 3


def test_the_oldest_files_make_room(make_entry, tmp_path) -> None:
    size = len(pack(make_entry("o0")))
    disk, gone = LatentDisk(tmp_path, "v1", 2 * size, oldest()), []
    disk.gone = gone.append
    for number in range(4):
        disk.write(make_entry(f"o{number}"))
    assert gone == ["o0-4", "o1-4"]
    assert files(tmp_path) == ["v1-o2-4.latents", "v1-o3-4.latents"]
    assert disk.nbytes == 2 * size
    disk.close()


@pytest.mark.parametrize("harm", [lambda p: p.write_bytes(p.read_bytes()[:-1]), lambda p: p.unlink()])
def test_what_is_damaged_or_gone_is_found_out_and_removed(disk, make_entry, tmp_path, harm) -> None:
    disk.write(make_entry("one"))
    harm(next(tmp_path.rglob("*.latents")))
    with pytest.raises(Damaged):
        disk.read("one-4")
    assert files(tmp_path) == []
    assert disk.nbytes == 0


def test_a_file_under_another_name_is_damaged(disk, make_entry, tmp_path) -> None:
    disk.write(make_entry("one"))
    path = next(tmp_path.rglob("*.latents"))
    path.rename(path.with_name("v1-two-4.latents"))
    with pytest.raises(Damaged):
        disk.read("two-4")


def test_after_a_restart_only_what_is_whole_and_of_this_version_is_left(make_entry, tmp_path) -> None:
    first = LatentDisk(tmp_path, "v1", 1 << 20, oldest())
    for name in ("good", "bad"):
        first.write(make_entry(name))
    first.close()
    place = next(tmp_path.rglob("v1-bad-4.latents"))
    place.write_bytes(b"x" * 50)
    (place.parent / "v0-old-4.latents").write_bytes(pack(make_entry("old")))
    (place.parent / "v1-cut-4.partial").write_bytes(b"half")
    second = LatentDisk(tmp_path, "v1", 1 << 20, oldest())
    assert [entry.origin for entry in second.entries()] == ["good"]
    assert files(tmp_path) == ["v1-good-4.latents"]
    second.close()


def test_each_process_has_its_own_place(make_entry, tmp_path) -> None:
    first, second = (LatentDisk(tmp_path, "v1", 1 << 20, oldest()) for _ in range(2))
    first.write(make_entry("one"))
    second.write(make_entry("two"))
    assert [entry.origin for entry in second.entries()] == ["two"]
    assert {path.parent.name for path in tmp_path.rglob("*.latents")} == {"0", "1"}
    first.close()
    second.close()


def test_a_disk_that_cannot_be_used_is_none_at_all(make_entry, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    disk = LatentDisk(tmp_path / "file", "v1", 1 << 20, oldest())
    assert not disk.write(make_entry("one"))
    assert list(disk.entries()) == []
    disk.close()
