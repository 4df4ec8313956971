"""Puts the bundles that come with the repository into the object store."""

from __future__ import annotations

import json
from pathlib import Path

from darkroom.bundles import catalog
from darkroom.errors import DarkroomError, ModelNotFound, ObjectNotFound, StorageUnavailable
from darkroom.settings import Settings
from darkroom.storage import ObjectStore
from darkroom.storage.directory import DirectoryStore
from local.errors import CannotStart

BUNDLED = Path(__file__).resolve().parent.parent / "crayon" / "bundle"


def seed(store: ObjectStore, settings: Settings) -> list[str]:
    """Publish what is bundled, and serve it, where it is not what was bundled at the last start.

    So a new release brings its new bundle, while a version that the operator has published since stays served.
    Returns `model version` of what was published. Raises: CannotStart.
    """
    source = Path(settings.bundle) if settings.bundle else BUNDLED
    published = []
    if source.is_dir():
        bundles = DirectoryStore(source)
        for model in catalog.models(bundles):
            try:
                version = catalog.current_version(bundles, model)
                if _seeded(store, model) != version or not _is_served(store, model):
                    _publish(bundles, store, model, version)
                    published.append(f"{model} {version}")
            except StorageUnavailable:  # of the store that it goes to; the bundle is well
                raise
            except DarkroomError as broken:
                raise CannotStart(f"The bundle of {model} in {source} cannot be used: {broken.detail}") from None
    elif settings.bundle:
        raise CannotStart(f"DARKROOM_BUNDLE: there is no directory {source}.")
    if not _is_served(store, settings.default_model):
        raise CannotStart(
            f"There is no bundle of {settings.default_model} to serve: build it with `python -m model_build build`, "
            "or set DARKROOM_DEFAULT_MODEL to a model that has one."
        )
    return published


def _publish(bundles: ObjectStore, store: ObjectStore, model: str, version: str) -> None:
    manifest = catalog.load_manifest(bundles, model, version)
    root = catalog.bundle_key(model, version, "")
    paths = [key.removeprefix(root) for key in bundles.keys(root)]
    files = {path: bundles.fetch(root + path, Path()) for path in paths if path != "manifest.json"}
    catalog.publish(store, manifest, files)
    store.put(_marker(model), json.dumps({"version": version}).encode(), content_type="application/json")


def _is_served(store: ObjectStore, model: str) -> bool:
    try:
        catalog.current_version(store, model)
    except ModelNotFound:
        return False
    return True


def _seeded(store: ObjectStore, model: str) -> str | None:
    try:
        return str(json.loads(store.get(_marker(model)))["version"])
    except (ObjectNotFound, ValueError, KeyError, TypeError):
        return None


def _marker(model: str) -> str:
    return f"seeds/{model}.json"
