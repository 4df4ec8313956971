"""A bundle without a store around it, as SageMaker mounts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.bundles.manifest import MANIFEST, EngineManifest
from darkroom.errors import EngineIntegrity, ModelNotFound, ObjectNotFound
from runtime.bundles.bundle import fetch_bundle
from runtime.bundles.hardware import Machine
from runtime.bundles.mounted import MountedBundle, bundles

MACHINE = Machine({"openvino": "2026.4.1"}, frozenset())


@pytest.fixture
def folder(manifest: EngineManifest, contents: dict[str, bytes], tmp_path: Path) -> Path:
    """What SageMaker puts at /opt/ml/model for the prefix `models/tiny/{version}/`."""
    mounted = tmp_path / "model"
    for path, body in {**contents, MANIFEST: manifest.model_dump_json().encode()}.items():
        (mounted / path).parent.mkdir(parents=True, exist_ok=True)
        (mounted / path).write_bytes(body)
    return mounted


@pytest.mark.parametrize("asked", [True, False])
def test_it_is_the_served_version_and_no_file_is_copied(folder, manifest, tmp_path, asked: bool) -> None:
    version = manifest.version if asked else None
    bundle = fetch_bundle(MountedBundle(folder), "tiny", version, None, MACHINE, tmp_path / "cache")
    assert bundle.manifest == manifest
    assert bundle.files == {path: folder / path for path in bundle.files}
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("model", "version"), [("other", None), ("tiny", "0" * 16)])
def test_nothing_else_is_in_it(folder, manifest, tmp_path, model: str, version: str | None) -> None:
    with pytest.raises(ModelNotFound, match=f"holds tiny {manifest.version} and nothing else; correct RUNTIME_MODEL"):
        fetch_bundle(MountedBundle(folder), model, version, None, MACHINE, tmp_path / "cache")


def test_a_damaged_file_is_refused(folder, tmp_path) -> None:
    (folder / "net.xml").write_bytes(b"something else")
    with pytest.raises(EngineIntegrity, match=r"net\.xml of tiny .* is not what its manifest says"):
        fetch_bundle(MountedBundle(folder), "tiny", None, None, MACHINE, tmp_path / "cache")


def test_a_damaged_manifest_is_refused(folder) -> None:
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(EngineIntegrity, match=r"manifest\.json is damaged"):
        bundles(folder, MountedBundle(folder))


def test_without_a_manifest_the_store_is_read(store, tmp_path) -> None:
    assert bundles(tmp_path, store) is store
    assert bundles(tmp_path / "absent", store) is store


def test_paths_do_not_lead_out_of_the_folder(folder, manifest) -> None:
    with pytest.raises(ObjectNotFound):
        MountedBundle(folder).get(f"models/tiny/{manifest.version}/../net.xml")
