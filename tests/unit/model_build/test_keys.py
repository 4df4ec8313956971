"""Keys on the command line: drawn, used to sign what is published, and what a runtime then accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from darkroom.bundles import catalog, signing
from darkroom.errors import EngineIntegrity
from darkroom.storage.directory import DirectoryStore
from model_build.__main__ import app
from tests.fakes import bundle


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout.strip(), " ".join(result.stderr.split())


def test_a_published_version_is_signed_and_signed_anew(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    made = bundle.publish(store, tmp_path)
    keys = {}
    for name in ("first.pem", "second.pem"):
        code, keys[name], _ = run("keygen", str(tmp_path / name))
        assert code == 0
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        told = ("--store", f"file://{tmp_path}/store", "--key", str(tmp_path / name))
        assert run("sign", made.model, *told) == (0, f"{made.model} {made.version}", "")
        signed = catalog.load_manifest(store, made.model)
        assert signed.version == made.version, "a signature is no content"
        signing.check(signed, [keys[name]])
    with pytest.raises(EngineIntegrity):
        signing.check(signed, [keys["first.pem"]])


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    assert run("keygen", str(tmp_path / "key.pem"))[0] == 0
    code, _, said = run("keygen", str(tmp_path / "key.pem"))
    assert code == 1
    assert said == f"{tmp_path}/key.pem exists already; keys are never overwritten."


@pytest.mark.parametrize("content", [None, b"no key"])
def test_a_build_with_a_key_that_cannot_sign_is_refused_before_any_work(tmp_path: Path, content: bytes | None) -> None:
    key, work = tmp_path / "key.pem", tmp_path / "work"
    if content is not None:
        key.write_bytes(content)
    given = ("--name", "x", "--store", f"file://{tmp_path}/store", "--work", str(work), "--sign-with", str(key))
    code, _, said = run("build", str(tmp_path / "no-checkpoint"), *given)
    assert code == 1
    assert said.startswith(f"{key}")
    assert not work.exists()
