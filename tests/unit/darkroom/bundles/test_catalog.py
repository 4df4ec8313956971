"""Publishing, serving and rolling back versions, over a store that may fail at any write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.errors import EngineIntegrity, ModelNotFound
from darkroom.storage.directory import DirectoryStore
from tests.fakes import bundle


class Crash(BaseException):
    """The process ends here."""


class CrashingStore(DirectoryStore):
    """Crashes at its `crash_at`th write (counted from 0), before it or after it."""

    crash_at = -1
    after = False
    writes = 0

    def put(self, key: str, body: bytes | Path, *, content_type: str = "application/octet-stream") -> None:
        due = self.writes == self.crash_at
        self.writes += 1
        if due and not self.after:
            raise Crash
        super().put(key, body, content_type=content_type)
        if due:
            raise Crash


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "built").mkdir()
    for path, body in bundle.FILES.items():
        (tmp_path / "built" / path).write_bytes(body)
    (tmp_path / "built" / "report.json").write_text("{}")
    return {path: tmp_path / "built" / path for path in [*bundle.FILES, "report.json"]}


OLD, NEW = bundle.manifest(checkpoint="0" * 64), bundle.manifest(checkpoint="1" * 64)


def key(manifest: EngineManifest, path: str) -> str:
    return catalog.bundle_key(manifest.model, manifest.version, path)


def test_what_is_published_is_served_whole(store: DirectoryStore, files: dict[str, Path]) -> None:
    catalog.publish(store, OLD, files)
    assert catalog.models(store) == ["crayon"]
    assert catalog.current_version(store, "crayon") == OLD.version
    assert catalog.load_manifest(store, "crayon") == OLD
    for path, source in files.items():
        assert store.get(key(OLD, path)) == source.read_bytes()


def test_a_version_can_be_published_without_being_served(store: DirectoryStore, files: dict[str, Path]) -> None:
    catalog.publish(store, OLD, files)
    catalog.publish(store, NEW, files, serve=False)
    assert catalog.load_manifest(store, "crayon") == OLD
    assert catalog.load_manifest(store, "crayon", NEW.version) == NEW


def test_rolling_back_is_serving_the_older_version_again(store: DirectoryStore, files: dict[str, Path]) -> None:
    catalog.publish(store, OLD, files)
    catalog.publish(store, NEW, files)
    assert catalog.load_manifest(store, "crayon") == NEW
    catalog.set_current(store, "crayon", OLD.version)
    assert catalog.load_manifest(store, "crayon") == OLD


def test_publishing_again_writes_no_file_again(tmp_path: Path, files: dict[str, Path]) -> None:
    store = CrashingStore(tmp_path / "objects")
    catalog.publish(store, OLD, files)
    store.writes = 0
    catalog.publish(store, OLD, files)
    assert store.writes == 1  # the pointer


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("crash_at", range(6))  # four files, the manifest, the pointer
def test_a_crash_at_any_write_leaves_the_old_version_or_the_new(
    tmp_path: Path, files: dict[str, Path], crash_at: int, after: bool
) -> None:
    store = CrashingStore(tmp_path / "objects")
    catalog.publish(store, OLD, files)
    store.crash_at, store.after = store.writes + crash_at, after
    with pytest.raises(Crash):
        catalog.publish(store, NEW, files)

    served = catalog.load_manifest(store, "crayon")
    assert served == (NEW if crash_at == 5 and after else OLD)
    for version in (OLD.version, NEW.version):  # a version either does not exist or has all its files
        try:
            manifest = catalog.load_manifest(store, "crayon", version)
        except ModelNotFound:
            continue
        assert all(store.get(key(manifest, file.path)) == bundle.FILES[file.path] for file in manifest.files)

    store.crash_at = -1
    catalog.publish(store, NEW, files)  # and a second try succeeds
    assert catalog.load_manifest(store, "crayon") == NEW


def test_a_file_that_differs_from_the_manifest_is_not_published(store: DirectoryStore, files: dict[str, Path]) -> None:
    files["unet.xml"].write_bytes(b"grapH")
    with pytest.raises(EngineIntegrity, match=r"unet\.xml"):
        catalog.publish(store, OLD, files)
    assert list(store.keys("")) == []


@pytest.mark.parametrize("absent", ["from the list", "from the disk"])
def test_a_missing_file_is_noticed_before_anything_is_stored(
    store: DirectoryStore, files: dict[str, Path], absent: str
) -> None:
    path = files.pop("unet.xml") if absent == "from the list" else files["unet.xml"]
    path.unlink()
    with pytest.raises(EngineIntegrity, match=r"lacks unet\.xml"):
        catalog.publish(store, OLD, files)
    assert list(store.keys("")) == []


@pytest.mark.parametrize("path", ["../report.json", "/report.json", "manifest.json", "a/../../report.json", ".hidden"])
def test_a_further_file_may_not_escape_or_replace_the_manifest(
    store: DirectoryStore, files: dict[str, Path], path: str
) -> None:
    with pytest.raises(ValueError, match="inside"):
        catalog.publish(store, OLD, {**files, path: files["report.json"]})
    assert list(store.keys("")) == []


def test_a_version_that_is_not_its_contents_hash_is_not_published(
    store: DirectoryStore, files: dict[str, Path]
) -> None:
    with pytest.raises(EngineIntegrity, match="hash"):
        catalog.publish(store, OLD.model_copy(update={"version": "f" * 16}), files)
    assert list(store.keys("")) == []


def test_only_a_version_that_exists_and_is_sound_can_be_served(store: DirectoryStore, files: dict[str, Path]) -> None:
    catalog.publish(store, OLD, files)
    catalog.publish(store, NEW, files, serve=False)
    store.put(key(NEW, "manifest.json"), b"{}")
    with pytest.raises(EngineIntegrity):
        catalog.set_current(store, "crayon", NEW.version)
    for version in ("f" * 16, "../../secret", "", f"{OLD.version}\n"):
        with pytest.raises(ModelNotFound):
            catalog.set_current(store, "crayon", version)
    assert catalog.load_manifest(store, "crayon") == OLD


@pytest.mark.parametrize("name", ["../crayon", "a/b", "", ".", "x" * 64, "crayon\n", "crayon\0", "nothing"])
def test_a_name_that_is_no_models_is_not_found(store: DirectoryStore, files: dict[str, Path], name: str) -> None:
    catalog.publish(store, OLD, files)
    with pytest.raises(ModelNotFound):
        catalog.current_version(store, name)
    with pytest.raises(ModelNotFound):
        catalog.load_manifest(store, name, OLD.version)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary() | st.sampled_from([b"{}", b"null", b'{"version": 7}', b'{"version": "../../x"}', b"[" * 9999]))
def test_a_damaged_pointer_is_said_to_be_damaged(store: DirectoryStore, body: bytes) -> None:
    store.put("models/crayon/current.json", body)
    with pytest.raises(EngineIntegrity, match="pointer"):
        catalog.current_version(store, "crayon")


ESCAPES = ["../unet.xml", "/unet.xml", "a/../../unet.xml", "..\\unet.xml", "./unet.xml", "", "a\0", "manifest.json"]


def _put(store: DirectoryStore, content: dict[str, Any]) -> None:
    store.put(key(NEW, "manifest.json"), json.dumps(content).encode())


@pytest.mark.parametrize("path", ESCAPES)
def test_a_manifest_with_a_path_that_escapes_is_refused(store: DirectoryStore, path: str) -> None:
    content = NEW.model_dump(mode="json")
    content["files"][0]["path"] = path
    content["targets"][0]["files"] = [path]
    content["targets"][0]["components"] = {"unet": path}
    _put(store, content)
    with pytest.raises(EngineIntegrity, match="damaged"):
        catalog.load_manifest(store, "crayon", NEW.version)


@pytest.mark.parametrize(
    ("member", "value"),
    [("checkpoint_sha256", "2" * 64), ("model", "other"), ("version", "f" * 16), ("built_with", {"library": "1"})],
)
def test_a_manifest_that_was_changed_is_refused(store: DirectoryStore, member: str, value: object) -> None:
    _put(store, NEW.model_dump(mode="json") | {member: value})
    with pytest.raises(EngineIntegrity, match="does not belong"):
        catalog.load_manifest(store, "crayon", NEW.version)


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"schema_version": 2}'])
def test_a_manifest_that_is_none_is_refused(store: DirectoryStore, body: bytes) -> None:
    store.put(key(NEW, "manifest.json"), body)
    with pytest.raises(EngineIntegrity, match="damaged"):
        catalog.load_manifest(store, "crayon", NEW.version)
