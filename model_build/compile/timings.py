"""TensorRT's timing cache, kept in the object store: what a GPU's tactics take is measured once for each version."""

from __future__ import annotations

from pathlib import Path

from darkroom.storage import ObjectStore

_ROOT = "timing-caches"


def bring(store: ObjectStore, tensorrt: str, folder: Path) -> None:
    """Fetch what earlier builds with this TensorRT measured, on whatever architecture, into `folder`."""
    prefix = f"{_ROOT}/{tensorrt}/"
    for key in store.keys(prefix):
        store.fetch(key, folder / key.removeprefix(prefix))


def keep(store: ObjectStore, tensorrt: str, folder: Path) -> None:
    """Store what this build has measured; TensorRT's provider has added it to what was there."""
    for file in sorted(folder.glob("*.timing")):
        store.put(f"{_ROOT}/{tensorrt}/{file.name}", file)
