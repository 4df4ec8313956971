"""A bundle that the platform has put on this machine as a folder, as SageMaker does at /opt/ml/model."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from darkroom.bundles.catalog import Pointer, bundle_key, pointer_key
from darkroom.bundles.manifest import MANIFEST, EngineManifest
from darkroom.errors import EngineIntegrity, ModelNotFound
from darkroom.storage import ObjectReader
from darkroom.storage.directory import DirectoryStore


class MountedBundle:
    """A folder with what an object store has at `models/{model}/{version}/`, read as if the store were around it.

    The version is the one that the manifest names, and the one served. Raises: EngineIntegrity for no legible manifest;
    asked for anything else than this version, ModelNotFound.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = DirectoryStore(folder)
        try:
            manifest = EngineManifest.model_validate_json(self._files.get(MANIFEST))
        except ValidationError:
            raise EngineIntegrity(f"{folder / MANIFEST} is damaged.") from None
        self._what = f"{manifest.model} {manifest.version}"
        self._prefix = bundle_key(manifest.model, manifest.version, "")
        self._pointer = pointer_key(manifest.model), Pointer(version=manifest.version).model_dump_json().encode()

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        if key == self._pointer[0]:
            return self._pointer[1]
        return self._files.get(self._path(key), limit=limit)

    def fetch(self, key: str, destination: Path) -> Path:
        """The mounted file itself; `destination` is not used."""
        return self._files.fetch(self._path(key), destination)

    def _path(self, key: str) -> str:
        if not key.startswith(self._prefix):
            raise ModelNotFound(
                f"{self._folder} holds {self._what} and nothing else; correct RUNTIME_MODEL or RUNTIME_VERSION."
            )
        return key.removeprefix(self._prefix)


def bundles(folder: Path, store: ObjectReader) -> ObjectReader:
    """Where bundles are read from: the folder, where a platform has put one there, else the store."""
    return MountedBundle(folder) if (folder / MANIFEST).is_file() else store
