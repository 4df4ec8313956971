"""From a bundle over calibrate-cache and build --cache to a runtime that skips steps, on a tiny checkpoint."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from darkroom.bundles.catalog import load_manifest
from darkroom.storage.directory import DirectoryStore
from model_build import BuildRefused
from model_build.build import Build
from model_build.cache.calibration import SPEC, calibrate, fetch, load, save, table, work
from model_build.cache.criterion import Moved
from model_build.cache.trials import Effort
from model_build.plan import Plan
from model_build.progress import BuildProgress
from runtime.bundles.bundle import fetch_bundle, load_bundle
from runtime.bundles.hardware import this_machine
from runtime.cache.calibrated import Calibrated, Calibration
from tests.exclusive import alone_in

LINES = [
    f"{size} {colour} cat {number}"
    for number in range(8)
    for size in ("a", "one")
    for colour in ("red", "at", "re", "b")
]
EFFORT = Effort(prompts=24, pairs=16)


@pytest.fixture(scope="module")
def calibrated(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = fetch(DirectoryStore(tiny_store), "tiny", "openvino-fp32", tmp_path_factory.mktemp("fetched"))
    advanced: list[None] = []
    tensors, told = calibrate(bundle, Moved(LINES), EFFORT, lambda: advanced.append(None))
    assert len(advanced) == work(EFFORT, bundle.manifest)
    assert table(told).row_count > 20
    folder = tmp_path_factory.mktemp("calibration") / "cache"
    save(tensors, told, folder)
    return folder


def test_the_next_build_holds_it_and_the_runtime_uses_it(
    calibrated: Path, tiny_checkpoint: Path, tiny_work: Path, tiny_store: Path, tmp_path: Path
) -> None:
    plan = Plan(str(tiny_checkpoint), "tiny", ["openvino-fp32"], tiny_work, verify_steps=2, repeats=0, cache=calibrated)
    with alone_in(tiny_work):
        made, _ = Build(plan, DirectoryStore(tmp_path), BuildProgress(Console(file=io.StringIO()))).run()
    assert made.cache is not None
    assert load_manifest(DirectoryStore(tiny_store), "tiny").cache is None
    loaded = load_bundle(fetch_bundle(DirectoryStore(tmp_path), "tiny", None, None, this_machine(), tmp_path / "c"), 1)
    assert loaded.prompt_map is not None
    policy = Calibrated(Calibration(loaded.prompt_map, made.cache, 0.5))
    tables = loaded.samplers.table(made.defaults.sampler, made.defaults.num_inference_steps)
    depths = [policy.deepest(distance, tables) for distance in (0.0, made.cache.random_distance, 1e9)]
    assert depths == sorted(depths, reverse=True)
    assert depths[0] > 0 == depths[-1]


def test_a_bundle_with_controlnets_is_calibrated_without_control(controlled_store: Path, tmp_path: Path) -> None:
    bundle = fetch(DirectoryStore(controlled_store), "controlled", "openvino-fp32", tmp_path)
    _, told = calibrate(bundle, Moved(LINES), EFFORT, lambda: None)
    assert told["spec"]["levels"]


def test_a_unet_that_takes_more_than_prompts_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    bundle = fetch(DirectoryStore(tiny_store), "tiny", "openvino-fp32", tmp_path)
    bundle.manifest = bundle.manifest.model_copy(update={"conditions": ["guidance"]})
    with pytest.raises(BuildRefused, match="guidance"):
        calibrate(bundle, Moved(LINES), EFFORT, lambda: None)


def test_a_calibration_of_another_checkpoint_or_none_is_refused(calibrated: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildRefused, match="another checkpoint"):
        load(calibrated, "0" * 64)
    with pytest.raises(BuildRefused, match="no calibration"):
        load(tmp_path, "0" * 64)
    broken = Path(shutil.copytree(calibrated, tmp_path / "broken"))
    (broken / SPEC).write_text("{")
    with pytest.raises(BuildRefused, match="no calibration"):
        load(broken, "0" * 64)
