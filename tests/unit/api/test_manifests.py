"""Which manifest a request is checked against."""

from pathlib import Path

import pytest

from api.manifests import Manifests
from darkroom.errors import EngineIntegrity, ModelNotFound
from darkroom.storage.directory import DirectoryStore
from tests.fakes import bundle


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_a_new_version_is_seen_after_a_while(store: DirectoryStore, tmp_path: Path) -> None:
    clock = Clock()
    manifests = Manifests(store, clock=clock)
    first = bundle.publish(store, tmp_path)
    assert manifests.current("crayon") == first
    second = bundle.publish(store, tmp_path, checkpoint="1" * 64)
    assert manifests.current("crayon") == first
    clock.now += 5.0
    assert manifests.current("crayon") == second


def test_what_is_not_served_here_is_not_found(store: DirectoryStore, tmp_path: Path) -> None:
    for name in ("crayon", "other"):
        bundle.publish(store, tmp_path, name)
    assert Manifests(store).names() == ["crayon", "other"]
    here = Manifests(store, served={"crayon"})
    assert here.names() == ["crayon"]
    with pytest.raises(ModelNotFound):
        here.current("other")


@pytest.mark.parametrize("name", ["../crayon", "", "a/b", ".hidden", "absent"])
def test_a_name_that_no_model_has(store: DirectoryStore, name: str) -> None:
    with pytest.raises(ModelNotFound):
        Manifests(store).current(name)


def test_a_damaged_manifest(store: DirectoryStore, tmp_path: Path) -> None:
    made = bundle.publish(store, tmp_path)
    store.put(f"models/crayon/{made.version}/manifest.json", b"{}")
    with pytest.raises(EngineIntegrity):
        Manifests(store).current("crayon")
