"""Rows 63 to 65: whatever is changed in a fingerprint, the engine it stands for is refused before it is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from darkroom.bundles import catalog
from darkroom.bundles.fingerprint import Fingerprint, Profile
from darkroom.bundles.manifest import EngineManifest
from darkroom.errors import EngineIntegrity
from darkroom.storage.directory import DirectoryStore
from tests.fakes import bundle

PROFILE = Profile(rows=(1, 2, 8), height=(8, 64, 128), width=(8, 64, 128))
FINGERPRINT = Fingerprint(
    checkpoint_sha256="a" * 64,
    component="unet",
    graph_sha256="d" * 64,
    precision="fp16",
    profile=PROFILE,
    controlnets=["canny:" + "b" * 64],
    loras=["c" * 64 + ":0.8"],
    library="onnxruntime",
    version="1.31.1",
    cuda="13.0",
    tensorrt="10.16.1",
    gpu_architecture="sm86",
)


def fingerprinted() -> EngineManifest:
    """The fake bundle with a TensorRT engine of its UNet."""
    content = bundle.manifest(checkpoint="a" * 64).model_dump(mode="json")
    path = f"tensorrt-fp16-sm86/{FINGERPRINT.digest()}/unet.onnx"
    content["files"].append({"path": path, "size": 1, "sha256": "0" * 64})
    content["targets"].append(
        {
            "name": "tensorrt-fp16-sm86",
            "format": "onnxruntime",
            "precision": "fp16",
            "components": {"unet": path},
            "files": [path],
            "requires": {
                "library": "onnxruntime",
                "version": "1.31.1",
                "cuda": "13.0",
                "tensorrt": "10.16.1",
                "gpu_architecture": "sm86",
            },
            "profile": PROFILE.model_dump(mode="json"),
            "fingerprints": [FINGERPRINT.model_dump(mode="json")],
        }
    )
    return versioned(content)


def versioned(content: dict[str, Any]) -> EngineManifest:
    made = EngineManifest.model_validate(content)
    return made.model_copy(update={"version": made.content_version()})


MANIFEST = fingerprinted()
TEXT = st.text("0123456789abcdef.:smx", max_size=64)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "checkpoint_sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
    "component": st.sampled_from(["text_encoder", "vae_decoder", "vae_encoder", ""]),
    "graph_sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
    "precision": st.sampled_from(["fp32", "bf16", "int8", ""]),
    "profile": st.none()
    | st.builds(lambda rows: PROFILE.model_copy(update={"rows": (1, 2, rows)}).model_dump(mode="json"), st.integers()),
    "controlnets": st.lists(TEXT),
    "loras": st.lists(TEXT),
    "library": TEXT,
    "version": TEXT,
    "cuda": st.none() | TEXT,
    "tensorrt": st.none() | TEXT,
    "gpu_architecture": st.none() | TEXT,
}


def test_every_field_is_mutated() -> None:
    assert set(VALUES) == set(Fingerprint.model_fields)


def test_a_bundle_with_fingerprints_survives_the_wire() -> None:
    again = EngineManifest.model_validate_json(MANIFEST.model_dump_json())
    assert again == MANIFEST
    assert again.content_version() == MANIFEST.version


@pytest.mark.parametrize("field", VALUES)
@given(data=st.data())
def test_a_mutated_field_is_refused_even_with_a_version_that_fits(field: str, data: st.DataObject) -> None:
    content = MANIFEST.model_dump(mode="json")
    fingerprint = content["targets"][-1]["fingerprints"][0]
    value = data.draw(VALUES[field].filter(lambda value: value != fingerprint[field]))
    fingerprint[field] = value
    with pytest.raises(ValidationError, match=r"not what its fingerprint says|one fingerprint for each engine"):
        versioned(content)


@pytest.mark.parametrize("field", ["library", "version", "cuda", "tensorrt", "gpu_architecture"])
def test_nor_does_it_help_to_change_what_the_target_requires_alike(field: str) -> None:
    content = MANIFEST.model_dump(mode="json")
    for place in (content["targets"][-1]["fingerprints"][0], content["targets"][-1]["requires"]):
        place[field] = "sm90"
    with pytest.raises(ValidationError, match="not what its fingerprint says"):
        versioned(content)


@pytest.mark.parametrize("field", VALUES)
def test_the_catalog_refuses_it_and_the_last_good_version_goes_on(tmp_path: Path, field: str) -> None:
    store = DirectoryStore(tmp_path / "store")
    good = bundle.publish(store, tmp_path)
    content = MANIFEST.model_dump(mode="json")
    content["targets"][-1]["fingerprints"][0][field] = "f" * 64
    key = catalog.bundle_key("crayon", MANIFEST.version, "manifest.json")
    store.put(key, json.dumps(content).encode())
    with pytest.raises(EngineIntegrity):
        catalog.load_manifest(store, "crayon", MANIFEST.version)
    with pytest.raises(EngineIntegrity):
        catalog.set_current(store, "crayon", MANIFEST.version)
    assert catalog.current_version(store, "crayon") == good.version


def test_an_older_manifest_in_a_newer_ones_place_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    old = bundle.publish(store, tmp_path)
    new = bundle.publish(store, tmp_path, checkpoint="1" * 64)
    older = store.get(catalog.bundle_key("crayon", old.version, "manifest.json"))
    store.put(catalog.bundle_key("crayon", new.version, "manifest.json"), older)
    with pytest.raises(EngineIntegrity, match="does not belong to this version"):
        catalog.load_manifest(store, "crayon")
