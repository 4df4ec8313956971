"""Bundles that come with the repository."""

from pathlib import Path

import pytest

from darkroom.bundles import catalog
from darkroom.settings import Settings
from darkroom.storage.directory import DirectoryStore
from local.errors import CannotStart
from local.seeding import seed
from tests.fakes import bundle


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def bundled(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "bundled")


@pytest.fixture
def settings(tmp_path: Path, bundled: DirectoryStore) -> Settings:
    return Settings(bundle=str(tmp_path / "bundled"))


def test_an_empty_store_gets_the_bundle_once(
    store: DirectoryStore, bundled: DirectoryStore, settings: Settings, tmp_path: Path
) -> None:
    made = bundle.publish(bundled, tmp_path)
    assert seed(store, settings) == [f"crayon {made.version}"]
    assert catalog.load_manifest(store, "crayon") == made
    assert store.get(catalog.bundle_key("crayon", made.version, "unet.xml")) == bundle.FILES["unet.xml"]
    assert seed(store, settings) == []


def test_a_new_bundle_is_served_and_what_the_operator_published_stays(
    store: DirectoryStore, bundled: DirectoryStore, settings: Settings, tmp_path: Path
) -> None:
    bundle.publish(bundled, tmp_path)
    seed(store, settings)
    theirs = bundle.publish(store, tmp_path, checkpoint="1" * 64)
    assert seed(store, settings) == []
    assert catalog.current_version(store, "crayon") == theirs.version
    newer = bundle.publish(bundled, tmp_path, checkpoint="2" * 64)
    assert seed(store, settings) == [f"crayon {newer.version}"]
    assert catalog.current_version(store, "crayon") == newer.version


def test_a_store_that_lost_its_pointer_is_seeded_again(
    store: DirectoryStore, bundled: DirectoryStore, settings: Settings, tmp_path: Path
) -> None:
    bundle.publish(bundled, tmp_path)
    seed(store, settings)
    store.delete("models/crayon/current.json")
    assert seed(store, settings)


def test_nothing_to_serve(store: DirectoryStore, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="no bundle of crayon"):
        seed(store, settings)
    with pytest.raises(CannotStart, match="there is no directory"):
        seed(store, Settings(bundle=str(tmp_path / "nowhere")))


def test_a_bundle_with_a_hole(
    store: DirectoryStore, bundled: DirectoryStore, settings: Settings, tmp_path: Path
) -> None:
    made = bundle.publish(bundled, tmp_path)
    bundled.delete(catalog.bundle_key("crayon", made.version, "unet.xml"))
    with pytest.raises(CannotStart, match="bundle of crayon"):
        seed(store, settings)
    assert list(store.keys("models/")) == []
