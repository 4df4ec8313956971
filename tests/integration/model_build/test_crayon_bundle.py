"""The bundle in the repository is what `make build` makes of the checkpoint beside it, to the byte.

But for the samplers' tables: diffusers computes them in float32, whose last bits differ from processor to processor.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.storage.directory import DirectoryStore

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT / "crayon" / "bundle"


def _served(store: Path) -> EngineManifest:
    return catalog.load_manifest(DirectoryStore(store), "crayon")


@pytest.mark.costly("Makefile", "crayon/**/*", "model_build/**/*", "layers/shared/darkroom/gpu/*.json")
def test_rebuilding_crayon_gives_the_bundle_in_the_repository(tmp_path: Path) -> None:
    told = subprocess.run(
        ["make", "--dry-run", "build", f"BUNDLE={tmp_path / 'store'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", " ")
    _python, *arguments = shlex.split(next(line for line in told.splitlines() if "-m model_build build" in line))
    command = [sys.executable, *arguments, "--work", str(tmp_path / "work"), "--repeats", "0"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    stores = [DirectoryStore(BUNDLE), DirectoryStore(tmp_path / "store")]
    committed, rebuilt = (catalog.load_manifest(store, "crayon") for store in stores)
    path = rebuilt.samplers.tables
    tables, again = (
        load(store.get(catalog.bundle_key("crayon", made.version, path)))
        for store, made in zip(stores, (committed, rebuilt), strict=True)
    )
    assert again.keys() == tables.keys()
    for name, table in tables.items():
        np.testing.assert_allclose(again[name], table, rtol=1e-4, err_msg=name)
    hashes, hashes_again = ({file.path: file.sha256 for file in made.files} for made in (committed, rebuilt))
    assert {**hashes_again, path: hashes[path]} == hashes
    assert rebuilt.model_copy(update={"version": committed.version, "files": committed.files}) == committed


def test_every_committed_file_is_what_the_manifest_says(tmp_path: Path) -> None:
    manifest = _served(BUNDLE)
    folder = BUNDLE / "models" / "crayon" / manifest.version
    # publish verifies each file's size and SHA-256 before it stores any
    catalog.publish(DirectoryStore(tmp_path), manifest, {file.path: folder / file.path for file in manifest.files})
