"""Uploads are forgotten by the age that their ids tell."""

from __future__ import annotations

from pathlib import Path

from darkroom.images import uploads
from darkroom.storage.directory import DirectoryStore

NOW = 1_800_000_000.0


def test_old_uploads_are_purged_and_nothing_else(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    old, new = (uploads.key("alice", uploads.new_id(instant)) for instant in (NOW - 1, NOW))
    others = [f"{uploads.PREFIX}by-hand/photo.png", "images/1/0.png"]
    for key in (old, new, *others):
        store.put(key, b"")
    assert uploads.purge(store, made_before=NOW) == 1
    assert set(store.keys("")) == {new, *others}
    assert uploads.purge(store, made_before=NOW) == 0


def test_a_folder_tells_nobody_whose_it_is() -> None:
    upload_id = uploads.new_id(NOW)
    assert "alice" not in uploads.key("alice", upload_id)
    assert uploads.key("alice", upload_id) != uploads.key("bob", upload_id)
    assert uploads.key_of("alice", uploads.reference(upload_id)) == uploads.key("alice", upload_id)
