"""The report's figures, and the table people read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.storage.directory import DirectoryStore
from model_build.layout import COMPONENTS, SAMPLERS
from model_build.proof.generation import Setting
from model_build.proof.measure import IMAGE, WORKS, Measurement
from model_build.proof.report import assemble, tables

SETTING = Setting("a cat", 512, 512, 20, 7.5, "ddim")
AGREEMENTS = [
    {
        "target": "openvino-fp32",
        "floor": 40.0,
        "components": dict.fromkeys(COMPONENTS, 120.5),
        "samplers": {sampler: 60.0 + index for index, sampler in enumerate(SAMPLERS)},
        "controls": {},
    }
]
SEEDS = (Measurement(13.433, 8 << 30), Measurement(3.105, 4 << 30))  # the seeds' own example: 4.33 times


@pytest.fixture
def manifest(tiny_store: Path) -> EngineManifest:
    return catalog.load_manifest(DirectoryStore(tiny_store), "tiny")


def test_times_and_speed_up(manifest: EngineManifest) -> None:
    report = assemble(manifest, SETTING, AGREEMENTS, {"openvino-fp32": dict.fromkeys(WORKS, SEEDS)}, {}, repeats=3)
    (target,) = report["targets"]
    assert target["times"][IMAGE] == {
        "baseline_ms": 13433.0,
        "optimised_ms": 3105.0,
        "speed_up": 4.33,
        "images_per_second": 0.322,
        "baseline_peak_bytes": 8 << 30,
        "optimised_peak_bytes": 4 << 30,
    }
    assert target["times"]["unet"]["images_per_second"] == 0.016, "an image takes 20 of its steps"
    assert target["times"]["vae_encoder"]["images_per_second"] is None, "text to image needs none"
    assert target["psnr"] == {**dict.fromkeys(COMPONENTS, 120.5), "image/ddim": 60.0} | {
        f"image/{sampler}": 60.0 + index for index, sampler in enumerate(SAMPLERS)
    }
    assert (report["model"], report["version"]) == ("tiny", manifest.version)
    assert report["hardware"]["cpus"] >= 1
    assert report["hardware"]["memory_bytes"] > 1 << 28
    assert {"python", "torch", "diffusers", "openvino", "onnxruntime"} <= report["software"].keys()
    assert json.loads(json.dumps(report)) == report


def shown(report: dict[str, object]) -> str:
    console = Console(file=io.StringIO(), width=100)
    for table in tables(report):
        console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_table(manifest: EngineManifest) -> None:
    text = shown(assemble(manifest, SETTING, AGREEMENTS, {"openvino-fp32": dict.fromkeys(WORKS, SEEDS)}, {}, repeats=3))
    row = next(line for line in text.splitlines() if line.strip().startswith("image, ddim"))
    assert " ".join(row.split()) == "image, ddim 13,433.0 ms 3,105.0 ms 4.33 times 0.32 8,192 to 4,096 60.0 dB"
    assert text.startswith("tiny on openvino-fp32")
    assert "512x512 px, 20 steps, guidance 7.5" in text
    assert all(f"image, {sampler}" in text for sampler in SAMPLERS)


def test_a_report_without_times(manifest: EngineManifest) -> None:
    report = assemble(manifest, SETTING, AGREEMENTS, {}, {}, repeats=0)
    assert report["targets"][0]["times"] == {}
    row = next(line.split() for line in shown(report).splitlines() if line.strip().startswith("VAE decoder"))
    assert row == ["VAE", "decoder", "120.5", "dB"]


def test_layers_left_out_of_int8_are_counted_and_kept(manifest: EngineManifest) -> None:
    left_out = [{"layers": ["unet.conv_in"], "error_share": 0.6, "work_share": 0.01}]
    notes = {"openvino-fp32": {"unet": {"weights": "int8", "left_out": left_out}, "vae_encoder": {"weights": "int8"}}}
    report = assemble(manifest, SETTING, AGREEMENTS, {}, notes, repeats=0)
    assert report["targets"][0]["quantization"] == notes["openvino-fp32"]
    assert "1 layers left out of int8, see report.json" in shown(report)


def test_controlnets_have_lines_of_their_own(manifest: EngineManifest) -> None:
    (plain,) = AGREEMENTS
    components = {**dict.fromkeys(COMPONENTS, 120.5), "controlnet_canny": 99.5}
    controlled = {**plain, "components": components, "controls": {"canny": 71.25}}
    report = assemble(manifest, SETTING, [controlled], {}, {}, repeats=0)
    (target,) = report["targets"]
    assert (target["psnr"]["controlnet_canny"], target["psnr"]["control/canny"]) == (99.5, 71.25)
    lines = [" ".join(line.split()) for line in shown(report).splitlines()]
    assert any("ControlNet canny" in line and "99.5 dB" in line for line in lines)
    assert any("control, canny" in line and "71.2 dB" in line for line in lines)
