"""Signed manifests: what a runtime with trusted keys loads, and the keys themselves."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from darkroom.bundles import catalog, signing
from darkroom.bundles.manifest import EngineManifest, Signature
from darkroom.errors import EngineIntegrity
from darkroom.storage.directory import DirectoryStore
from tests.fakes import bundle

MANIFEST = bundle.manifest()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "release.key"


def test_a_signed_manifest_passes_and_keeps_its_version(key: Path) -> None:
    public = signing.generate(key)
    signed = signing.sign(MANIFEST, key)
    signing.check(signed, [public])
    assert signed.content_version() == MANIFEST.version
    again = EngineManifest.model_validate_json(signed.model_dump_json(indent=1))
    signing.check(again, ["A" * 43 + "=", public])


def test_without_trusted_keys_nothing_is_asked(key: Path) -> None:
    signing.check(MANIFEST, [])


def test_an_unsigned_manifest_is_refused(key: Path) -> None:
    with pytest.raises(EngineIntegrity, match="not signed"):
        signing.check(MANIFEST, [signing.generate(key)])


def test_another_key_is_refused(key: Path, tmp_path: Path) -> None:
    signing.generate(key)
    with pytest.raises(EngineIntegrity, match="a key that this runtime does not trust"):
        signing.check(signing.sign(MANIFEST, key), [signing.generate(tmp_path / "other.key")])


def test_changed_content_is_refused_even_with_a_version_that_fits(key: Path) -> None:
    public = signing.generate(key)
    signature = signing.sign(MANIFEST, key).signature
    changed = MANIFEST.model_copy(update={"checkpoint_sha256": "1" * 64, "signature": signature})
    changed = changed.model_copy(update={"version": changed.content_version()})
    with pytest.raises(EngineIntegrity, match="not that of its content"):
        signing.check(changed, [public])


def test_a_forged_value_is_refused(key: Path) -> None:
    public = signing.generate(key)
    name = signing.sign(MANIFEST, key).signature
    assert name is not None
    forged = MANIFEST.model_copy(update={"signature": Signature(key=name.key, value="00" * 64)})
    with pytest.raises(EngineIntegrity, match="not that of its content"):
        signing.check(forged, [public])


def test_signing_what_is_published_changes_its_manifest_alone(key: Path, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    made = bundle.publish(store, tmp_path)
    public = signing.generate(key)
    catalog.publish(store, signing.sign(made, key), {path: tmp_path / path for path in bundle.FILES})
    found = catalog.load_manifest(store, "crayon")
    signing.check(found, [public])
    assert found.version == made.version
    catalog.publish(store, made, {path: tmp_path / path for path in bundle.FILES})
    assert catalog.load_manifest(store, "crayon").signature is not None, "publishing unsigned takes no signature away"


def test_a_private_key_is_its_owners_alone_and_never_overwritten(key: Path) -> None:
    signing.generate(key)
    kept = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(signing.KeyRefused, match="exists already"):
        signing.generate(key)
    assert key.read_bytes() == kept


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key(key: Path, content: bytes) -> None:
    key.write_bytes(content)
    with pytest.raises(signing.KeyRefused, match=r"holds no Ed25519 private key; make one with"):
        signing.sign(MANIFEST, key)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64", "A" * 44, "ü"])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(signing.KeyRefused, match="32 bytes in base64"):
        signing.decode_public(text)
