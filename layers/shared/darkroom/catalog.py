"""Which models and versions an object store holds, and which version is served."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from darkroom.contracts import MODEL_NAME
from darkroom.errors import EngineIntegrity, ModelNotFound, ObjectNotFound
from darkroom.manifest import EngineManifest
from darkroom.storage import ObjectStore

_NAME = re.compile(MODEL_NAME)
_VERSION = re.compile(r"^[0-9a-f]{16}$")


def bundle_key(model: str, version: str, path: str) -> str:
    return f"models/{model}/{version}/{path}"


def models(store: ObjectStore) -> list[str]:
    """Names of all models that have a served version."""
    found = (re.fullmatch(r"models/([^/]+)/current\.json", key) for key in store.keys("models/"))
    return [match[1] for match in found if match]


def current_version(store: ObjectStore, model: str) -> str:
    """The version served. Raises ModelNotFound, also for a name no model can have (before the store is asked)."""
    if not _NAME.fullmatch(model):
        raise ModelNotFound("There is no model of this name.")
    try:
        pointer = json.loads(store.get(f"models/{model}/current.json"))
    except ObjectNotFound:
        raise ModelNotFound("There is no model of this name.") from None
    except ValueError:
        raise EngineIntegrity("The pointer to the served version is damaged.") from None
    version = pointer.get("version") if isinstance(pointer, dict) else None
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise EngineIntegrity("The pointer to the served version is damaged.")
    return version


def load_manifest(store: ObjectStore, model: str, version: str | None = None) -> EngineManifest:
    """The manifest of a version (default: the served one), checked against its own content hash.

    Raises: ModelNotFound, EngineIntegrity.
    """
    wanted = version or current_version(store, model)
    try:
        manifest = EngineManifest.model_validate_json(store.get(bundle_key(model, wanted, "manifest.json")))
    except ObjectNotFound:
        raise ModelNotFound("There is no such version of this model.") from None
    except ValidationError:
        raise EngineIntegrity("The manifest is damaged.") from None
    if manifest.model != model or manifest.version != wanted or manifest.content_version() != wanted:
        raise EngineIntegrity("The manifest does not belong to this version.")
    return manifest


def publish(store: ObjectStore, manifest: EngineManifest, files: Mapping[str, Path], *, serve: bool = True) -> None:
    """Store a bundle: artefacts first, the manifest last, then (with `serve`) the pointer to the served version.

    `files` maps each path of the manifest, and any further one (reports), to a local file. A crash at any point leaves
    the store with the old version or the new one, never a part of one. Publishing a version again changes nothing.
    """
    key = bundle_key(manifest.model, manifest.version, "manifest.json")
    if not store.exists(key):
        for path, source in files.items():
            store.put(bundle_key(manifest.model, manifest.version, path), source)
        store.put(key, manifest.model_dump_json(indent=1).encode(), content_type="application/json")
    if serve:
        set_current(store, manifest.model, manifest.version)


def set_current(store: ObjectStore, model: str, version: str) -> None:
    """Serve this version from now on."""
    pointer = json.dumps({"version": version}).encode()
    store.put(f"models/{model}/current.json", pointer, content_type="application/json")
