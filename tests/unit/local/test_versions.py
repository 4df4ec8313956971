"""Listing versions and rolling back, over a real store of two bundles."""

from pathlib import Path

import pytest

from darkroom.bundles import catalog
from darkroom.storage.directory import DirectoryStore
from local import versions


@pytest.fixture
def store(tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    """A data directory's store with the tiny bundle, and the same again under other limits, which is served."""
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path))
    source, target = DirectoryStore(tiny_store), DirectoryStore(tmp_path / "store")
    first = catalog.load_manifest(source, "tiny")
    limits = first.limits.model_copy(update={"max_pixels": first.limits.max_pixels // 2})
    second = first.model_copy(update={"limits": limits})
    second = second.model_copy(update={"version": second.content_version()})
    folder = tiny_store / "models" / "tiny" / first.version
    for manifest in (first, second):
        catalog.publish(target, manifest, {file.path: folder / file.path for file in manifest.files})
    return target


def test_it_lists_versions_and_marks_the_served_one(store: DirectoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    versions.main("tiny")
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:18] for line in lines] == catalog.versions(store, "tiny")
    assert [line[2:18] for line in lines if line.startswith("*")] == [catalog.current_version(store, "tiny")]
    assert len(lines) == 2


def test_rolling_back_moves_the_mark(store: DirectoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    now = catalog.current_version(store, "tiny")
    (other,) = set(catalog.versions(store, "tiny")) - {now}
    versions.main("tiny", serve=other)
    assert catalog.current_version(store, "tiny") == other
    assert f"* {other}" in capsys.readouterr().out


def test_a_version_that_is_not_there_is_refused_and_nothing_moves(store: DirectoryStore) -> None:
    now = catalog.current_version(store, "tiny")
    with pytest.raises(SystemExit, match="no such version"):
        versions.main("tiny", serve="0" * 16)
    assert catalog.current_version(store, "tiny") == now


def test_an_unknown_model_is_one_sentence(store: DirectoryStore) -> None:
    with pytest.raises(SystemExit, match="darkroom: There is no model of this name"):
        versions.main("nothing")
