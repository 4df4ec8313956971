"""Ed25519 signatures of manifests: who may say what a runtime loads. `cryptography` is imported on first use."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.bundles.manifest import EngineManifest, Signature
from darkroom.errors import EngineIntegrity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KEY_BYTES = 32


class KeyRefused(Exception):
    """One sentence about a key file or a public key."""


def generate(path: Path) -> str:
    """Draw a key pair: the private key goes to `path` (PEM, for its owner's eyes only), the public key is returned.

    Raises: KeyRefused where there is a file already.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyRefused(f"{path} exists already; keys are never overwritten.") from None
    with os.fdopen(handle, "wb") as file:
        file.write(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return base64.b64encode(_public_bytes(private)).decode()


def sign(manifest: EngineManifest, key: Path) -> EngineManifest:
    """The manifest with a signature by the private key in `key`. Raises: KeyRefused, OSError."""
    private = load_private(key)
    value = private.sign(manifest.signed_content())
    return manifest.model_copy(update={"signature": Signature(key=_name(_public_bytes(private)), value=value.hex())})


def check(manifest: EngineManifest, trusted: Sequence[str]) -> None:
    """Pass where there are no trusted keys, or one of them (base64 of 32 bytes each) signed this manifest.

    Raises: EngineIntegrity; KeyRefused where a trusted key is none.
    """
    if not trusted:
        return
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    signature, keys = manifest.signature, {_name(raw): raw for raw in map(decode_public, trusted)}
    if signature is None:
        raise EngineIntegrity("The manifest is not signed, and this runtime loads signed ones only.")
    if signature.key not in keys:
        raise EngineIntegrity("The manifest is signed by a key that this runtime does not trust.")
    try:
        public = Ed25519PublicKey.from_public_bytes(keys[signature.key])
        public.verify(bytes.fromhex(signature.value), manifest.signed_content())
    except InvalidSignature:
        raise EngineIntegrity("The manifest's signature is not that of its content.") from None


def decode_public(text: str) -> bytes:
    """The 32 bytes of a public key as `generate` returned it. Raises: KeyRefused."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise KeyRefused("a public key is 32 bytes in base64, as `python -m model_build keygen` prints it")
    return raw


def load_private(path: Path) -> Ed25519PrivateKey:
    """The private key that `generate` wrote. Raises: KeyRefused, OSError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyRefused(f"{path} holds no Ed25519 private key; make one with `python -m model_build keygen`.")
    return key


def _public_bytes(private: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _name(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]
