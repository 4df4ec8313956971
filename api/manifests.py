"""The served manifests, remembered for a few seconds, so that a request does not wait for the object store."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.errors import ModelNotFound
from darkroom.storage import ObjectStore

_FRESH_SECONDS = 5.0


class Manifests:
    """The manifest that each model serves now. `served` limits a deployment to the models its runtimes have loaded."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        served: Collection[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._served = served
        self._clock = clock
        self._known: dict[str, tuple[float, EngineManifest]] = {}

    def names(self) -> list[str]:
        """Every model that can be asked for, in alphabetical order."""
        return [name for name in catalog.models(self._store) if self._served is None or name in self._served]

    def of(self, model: str, version: str) -> EngineManifest:
        """The manifest of any published version. Raises: ModelNotFound, EngineIntegrity."""
        return catalog.load_manifest(self._store, model, version)

    def current(self, model: str) -> EngineManifest:
        """Raises ModelNotFound (before the store is asked, where no model can have that name), EngineIntegrity."""
        if self._served is not None and model not in self._served:
            raise self._not_found()
        read_at, manifest = self._known.get(model, (0.0, None))
        if manifest is not None and self._clock() - read_at < _FRESH_SECONDS:
            return manifest
        try:
            version = catalog.current_version(self._store, model)
        except ModelNotFound:
            raise self._not_found() from None
        if manifest is None or manifest.version != version:
            manifest = catalog.load_manifest(self._store, model, version)
        self._known[model] = (self._clock(), manifest)
        return manifest

    def _not_found(self) -> ModelNotFound:
        """With the names that are known without asking the store."""
        names = ", ".join(sorted(self._served or self._known))
        return ModelNotFound(f"There is no model of this name; there is {names}.") if names else ModelNotFound()
