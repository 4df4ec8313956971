"""Fetching a bundle: every file is verified before anything is deserialized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from darkroom.bundles import catalog, signing
from darkroom.bundles.row_costs import ROW_COSTS, RowCosts
from darkroom.errors import EngineIncompatible, EngineIntegrity, ModelNotFound
from runtime.bundles.bundle import Bundle, fetch_bundle, load_bundle
from runtime.bundles.hardware import Machine, processor

MACHINE = Machine({"openvino": "2026.4.1"}, frozenset())


@pytest.fixture
def published(store, manifest, contents, tmp_path):
    """The store with the bundle in it."""
    files = {}
    for path, body in contents.items():
        files[path] = tmp_path / "source" / path
        files[path].parent.mkdir(exist_ok=True)
        files[path].write_bytes(body)
    catalog.publish(store, manifest, files)
    return store


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def key(manifest, path: str) -> str:
    return catalog.bundle_key("tiny", manifest.version, path)


def test_the_served_version_is_fetched_and_verified(published, manifest, contents, cache) -> None:
    bundle = fetch_bundle(published, "tiny", None, None, MACHINE, cache)
    assert (bundle.manifest, bundle.target.name) == (manifest, "plain")
    assert {path: file.read_bytes() for path, file in bundle.files.items()} == contents


def test_only_what_the_target_needs_is_fetched(published, manifest, cache) -> None:
    fetched = fetch_bundle(published, "tiny", manifest.version, "plain", MACHINE, cache).files
    assert set(fetched) == {"tokenizer.json", "samplers.safetensors", "net.xml"}


@pytest.mark.parametrize("path", ["tokenizer.json", "samplers.safetensors", "net.xml"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "missing", "swapped"])
def test_a_damaged_file_is_refused(published, manifest, contents, cache, path, damage) -> None:
    body = contents[path]
    damaged = {
        "flipped": bytes([body[0] ^ 1]) + body[1:],
        "truncated": body[:-1],
        "longer": body + b"\0",
        "swapped": contents["net.xml" if path != "net.xml" else "tokenizer.json"],
        "missing": None,
    }[damage]
    if damaged is None:
        del published.objects[key(manifest, path)]
    else:
        published.objects[key(manifest, path)] = damaged
    with pytest.raises(EngineIntegrity, match=rf"^{path} of tiny {manifest.version} is .*publish the bundle again\.$"):
        fetch_bundle(published, "tiny", None, None, MACHINE, cache)


def test_a_kept_file_is_used_again_only_if_it_is_still_right(published, manifest, contents, cache) -> None:
    first = fetch_bundle(published, "tiny", None, None, MACHINE, cache)
    source = dict(published.objects)
    for path in contents:
        del published.objects[key(manifest, path)]
    assert fetch_bundle(published, "tiny", None, None, MACHINE, cache) == first
    published.objects.update(source)
    first.files["net.xml"].write_bytes(b"<bad/>")
    again = fetch_bundle(published, "tiny", None, None, MACHINE, cache)
    assert again.files["net.xml"].read_bytes() == contents["net.xml"]


def test_a_model_that_does_not_exist(store, cache) -> None:
    with pytest.raises(ModelNotFound):
        fetch_bundle(store, "tiny", None, None, MACHINE, cache)


def test_nothing_is_fetched_for_a_machine_that_no_target_fits(published, cache) -> None:
    with pytest.raises(EngineIncompatible):
        fetch_bundle(published, "tiny", None, None, Machine({}, frozenset()), cache)
    assert not cache.exists()


def test_loading_opens_the_target_with_verified_files(published, engine, cache) -> None:
    bundle = fetch_bundle(published, "tiny", None, None, MACHINE, cache)
    opened = []

    def open_target(*arguments):
        opened.append(arguments)
        return engine

    loaded = load_bundle(bundle, 3, open_target)
    assert opened == [(bundle.target, bundle.files, 3)]
    assert (loaded.engine, loaded.target) == (engine, bundle.target)
    assert loaded.tokenizer.encode("cat").ids[0, 1] == 4
    assert loaded.samplers.table("plain", 1).steps == 1


def test_a_verified_but_meaningless_file_is_refused(published, manifest, tmp_path, cache) -> None:
    bundle = fetch_bundle(published, "tiny", None, None, MACHINE, cache)
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"not what it should be")
    damaged = Bundle(manifest, bundle.target, {**bundle.files, "samplers.safetensors": wrong})
    with pytest.raises(EngineIntegrity, match="sampler tables"):
        load_bundle(damaged, 1, lambda *_: None)


def test_only_signed_bundles_are_loaded_where_keys_are_trusted(published, manifest, tmp_path, cache) -> None:
    public = signing.generate(tmp_path / "key")
    with pytest.raises(EngineIntegrity, match="not signed"):
        fetch_bundle(published, "tiny", None, None, MACHINE, cache, [public])
    assert not cache.exists()
    catalog.put_manifest(published, signing.sign(manifest, tmp_path / "key"))
    assert fetch_bundle(published, "tiny", None, None, MACHINE, cache, [public]).manifest.version == manifest.version


def test_keys_are_rotated_without_an_hour_in_which_nothing_loads(published, manifest, tmp_path, cache) -> None:
    old, new = (signing.generate(tmp_path / name) for name in ("old", "new"))

    def loads(trusted: list[str]) -> bool:
        try:
            fetch_bundle(published, "tiny", None, None, MACHINE, cache, trusted)
        except EngineIntegrity:
            return False
        return True

    catalog.put_manifest(published, signing.sign(manifest, tmp_path / "old"))
    assert (loads([old]), loads([old, new]), loads([new])) == (True, True, False)
    catalog.put_manifest(published, signing.sign(manifest, tmp_path / "new"))
    assert (loads([old, new]), loads([new]), loads([old])) == (True, True, False)


def test_a_fallback_is_carried_to_who_answers(published, cache, engine) -> None:
    bundle = fetch_bundle(published, "tiny", None, None, MACHINE, cache)
    assert bundle.preferred is None
    flagged = replace(bundle, preferred=bundle.manifest.targets[0])
    assert load_bundle(flagged, 1, lambda *_: engine).preferred == bundle.manifest.targets[0]


def test_what_was_measured_at_build_advises_where_it_was_measured(published, manifest, cache, engine) -> None:
    def rows(threads: int) -> int | None:
        bundle = fetch_bundle(published, "tiny", None, None, MACHINE, cache)
        return load_bundle(bundle, threads, lambda *_: engine).row_cap

    assert rows(2) is None
    measured = RowCosts(processor=processor(), threads=2, targets={"plain": {1: 9.0, 2: 6.0, 4: 3.0, 8: 3.0}})
    published.put(key(manifest, ROW_COSTS), measured.sealed().model_dump_json().encode())
    assert (rows(2), rows(8)) == (4, None)
    published.put(key(manifest, ROW_COSTS), b"damaged")
    assert rows(2) is None
