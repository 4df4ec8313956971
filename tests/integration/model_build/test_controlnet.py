"""Bundles with ControlNets: one engine each, and the images that StableDiffusionControlNetPipeline makes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.storage.directory import DirectoryStore
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.controlnet import open_controlnets
from model_build.checkpoints.loading import load, load_controlnets
from model_build.layout import COMPONENTS
from model_build.proof.control import ControlSetting, no_residuals
from model_build.proof.generation import BundlePipeline, Setting
from model_build.proof.psnr import psnr
from model_build.proof.reference import Reference

CANNY, DEPTH = ControlSetting("canny"), ControlSetting("depth", 0.6)


@pytest.fixture(scope="module")
def manifest(controlled_store: Path) -> EngineManifest:
    return catalog.load_manifest(DirectoryStore(controlled_store), "controlled")


@pytest.fixture(scope="module")
def pipelines(controlled_store: Path, manifest: EngineManifest) -> dict[str, BundlePipeline]:
    def local(path: str) -> Path:
        return controlled_store / catalog.bundle_key("controlled", manifest.version, path)

    files = {file.path: local(file.path) for file in manifest.files}
    return {target.name: BundlePipeline(manifest, target.name, files, 1) for target in manifest.targets}


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path, tiny_controlnets: dict[str, str]) -> Reference:
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    controlnets = load_controlnets(open_controlnets(tiny_controlnets, checkpoint))
    return Reference(checkpoint, load(checkpoint), controlnets)


def test_the_manifest_lists_them(manifest: EngineManifest) -> None:
    assert manifest.control is not None
    assert manifest.control_types == ["canny", "depth"]
    assert [(r.name, r.channels, r.shrink) for r in manifest.control.residuals] == [
        ("down_residual_0", 16, 1),
        ("down_residual_1", 16, 1),
        ("down_residual_2", 16, 2),
        ("down_residual_3", 32, 2),
        ("mid_residual", 32, 2),
    ]
    for target in manifest.targets:
        assert list(target.components) == [*COMPONENTS, "controlnet_canny", "controlnet_depth"]
        assert len([path for path in target.files if "/unet." in path]) == 2, "one UNet, and its weights"


def test_the_residuals_have_the_shapes_that_the_manifest_says(
    manifest: EngineManifest, pipelines: dict[str, BundlePipeline]
) -> None:
    random = np.random.default_rng(0)
    inputs = {
        "latents": random.standard_normal((3, 4, 9, 13), np.float32),
        "timestep": np.array([1, 500, 999], np.float32),
        "prompt_embeds": random.standard_normal((3, 77, 32), np.float32),
    }
    assert manifest.control is not None
    wanted = [value.shape for value in no_residuals(manifest.control, inputs["latents"]).values()]
    for pipeline in pipelines.values():
        image = {"control_image": random.random((3, 3, 72, 104), np.float32)}
        found = pipeline.component("controlnet_canny", {**inputs, **image})
        assert [value.shape for value in found] == wanted
        for row in range(3):
            alone = pipeline.component(
                "controlnet_canny", {name: value[row : row + 1] for name, value in {**inputs, **image}.items()}
            )
            for one, other in zip(found, alone, strict=True):
                assert np.abs(one[row : row + 1] - other).max() < 1e-4 * np.abs(one).max()


@pytest.mark.parametrize("target", ["openvino-fp32", "onnx-cpu"])
@pytest.mark.parametrize(
    ("controls", "guidance", "size"),
    [
        ((CANNY,), 7.5, (64, 64)),
        ((CANNY,), 1.0, (64, 72)),
        ((ControlSetting("depth", 2.0, 0.2, 0.9),), 7.5, (64, 64)),
        ((CANNY, DEPTH), 5.0, (72, 56)),
        ((ControlSetting("canny", 0.5, 0.0, 0.5), ControlSetting("depth", 0.8, 0.4, 1.0)), 0.0, (64, 64)),
    ],
)
def test_images_are_those_of_diffusers(
    pipelines: dict[str, BundlePipeline], reference: Reference, target: str, controls, guidance, size
) -> None:
    plain = Setting("a red cat", *size, 6, guidance, "euler_a", seed=7)
    setting = Setting("a red cat", *size, 6, guidance, "euler_a", seed=7, controls=controls)
    wanted, found = reference.generate(setting), pipelines[target].generate(setting)
    assert psnr(wanted, found, peak=1.0) >= 60
    assert psnr(wanted, pipelines[target].generate(plain), peak=1.0) < 40, "control can be seen"


def test_without_control_it_is_the_checkpoint(pipelines: dict[str, BundlePipeline], reference: Reference) -> None:
    setting = Setting("a red cat", 64, 64, 4, 3.0, "dpmpp_2m")
    for pipeline in pipelines.values():
        assert psnr(reference.generate(setting), pipeline.generate(setting), peak=1.0) >= 60


def test_the_report_has_them(controlled_store: Path, manifest: EngineManifest) -> None:
    path = catalog.bundle_key("controlled", manifest.version, "report.json")
    for target in json.loads((controlled_store / path).read_text())["targets"]:
        assert {"control/canny", "control/depth", "control/canny+depth"} <= target["psnr"].keys()
        assert target["psnr"]["controlnet_depth"] >= 60


def test_a_unet_built_without_them_has_no_such_inputs(tiny_store: Path) -> None:
    manifest = catalog.load_manifest(DirectoryStore(tiny_store), "tiny")
    assert manifest.control is None
    key = catalog.bundle_key("tiny", manifest.version, "openvino/unet.xml")
    assert "residual" not in (tiny_store / key).read_text()
