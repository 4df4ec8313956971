"""Which models and versions an object store holds, and which version is served."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from darkroom.bundles.manifest import MANIFEST, VERSION, EngineManifest
from darkroom.contracts import MODEL_NAME
from darkroom.errors import EngineIntegrity, ModelNotFound, ObjectNotFound
from darkroom.storage import ObjectReader, ObjectStore
from darkroom.storage import keys as object_keys

_NAME = re.compile(MODEL_NAME)


class Pointer(BaseModel):
    """`models/{model}/current.json`: the version that is served."""

    version: Annotated[str, Field(pattern=VERSION)]


def bundle_key(model: str, version: str, path: str) -> str:
    return f"models/{model}/{version}/{path}"


def pointer_key(model: str) -> str:
    return f"models/{model}/current.json"


def models(store: ObjectStore) -> list[str]:
    """Names of all models that have a served version."""
    matches = (re.fullmatch(r"models/([^/]+)/current\.json", key) for key in store.keys("models/"))
    return [match[1] for match in matches if match and _NAME.fullmatch(match[1])]


def current_version(store: ObjectReader, model: str) -> str:
    """The version served.

    Raises: ModelNotFound, also for a name no model can have (before the store is asked); EngineIntegrity.
    """
    if not _NAME.fullmatch(model):
        raise ModelNotFound("There is no model of this name.")
    try:
        return Pointer.model_validate_json(store.get(pointer_key(model))).version
    except ObjectNotFound:
        raise ModelNotFound("There is no model of this name.") from None
    except ValidationError:
        raise EngineIntegrity("The pointer to the served version is damaged.") from None


def versions(store: ObjectStore, model: str) -> list[str]:
    """All published versions of a model, sorted; one without its manifest was never finished and does not count."""
    matches = (re.fullmatch(r"models/[^/]+/([^/]+)/manifest\.json", key) for key in store.keys(f"models/{model}/"))
    return [match[1] for match in matches if match and re.fullmatch(VERSION, match[1])]


def load_manifest(store: ObjectReader, model: str, version: str | None = None) -> EngineManifest:
    """The manifest of a version (default: the served one), checked against its own content hash.

    Raises: ModelNotFound, EngineIntegrity.
    """
    wanted = current_version(store, model) if version is None else version
    if not (_NAME.fullmatch(model) and re.fullmatch(VERSION, wanted)):
        raise ModelNotFound("There is no such version of this model.")
    try:
        manifest = EngineManifest.model_validate_json(store.get(bundle_key(model, wanted, MANIFEST)))
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
    the store with the old version or the new one, never a part of one. Publishing a version again changes nothing but
    its signature.

    Raises: EngineIntegrity, before anything is stored, when a file is missing or is not what the manifest says;
    ValueError for a further file whose path is no object key or that of the manifest.
    """
    _check(manifest, files)
    key = bundle_key(manifest.model, manifest.version, MANIFEST)
    if not store.exists(key):
        for path, source in files.items():
            store.put(bundle_key(manifest.model, manifest.version, path), source)
        put_manifest(store, manifest)
    elif manifest.signature is not None:
        put_manifest(store, manifest)
    if serve:
        set_current(store, manifest.model, manifest.version)


def put_manifest(store: ObjectStore, manifest: EngineManifest) -> None:
    """Store a manifest alone: that of a finished version whose signature is new."""
    key = bundle_key(manifest.model, manifest.version, MANIFEST)
    store.put(key, manifest.model_dump_json(indent=1).encode(), content_type="application/json")


def set_current(store: ObjectStore, model: str, version: str) -> None:
    """Serve this version from now on; an older one is a rollback.

    Raises: ModelNotFound, EngineIntegrity; what was served before then goes on.
    """
    load_manifest(store, model, version)
    pointer = Pointer(version=version).model_dump_json().encode()
    store.put(pointer_key(model), pointer, content_type="application/json")


def _check(manifest: EngineManifest, files: Mapping[str, Path]) -> None:
    if not all(object_keys.is_valid(path) and path != MANIFEST for path in files):
        raise ValueError("a file of a bundle must lie inside it and may not be its manifest")
    if manifest.version != manifest.content_version():
        raise EngineIntegrity("The manifest's version is not the hash of its content.")
    for listed in manifest.files:
        source = files.get(listed.path)
        if source is None or not source.is_file():
            raise EngineIntegrity(f"The bundle lacks {listed.path}.")
        with source.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if (source.stat().st_size, digest) != (listed.size, listed.sha256):
            raise EngineIntegrity(f"{listed.path} is not the file that the manifest lists.")
