"""From a checkpoint to a published bundle whose engines draw what diffusers draws."""

from __future__ import annotations

import io
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from tokenizers import Tokenizer

from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.bundles.row_costs import load_row_costs
from darkroom.storage.directory import DirectoryStore
from model_build import BuildRefused
from model_build.build import Build
from model_build.checkpoints.checkpoint import file_sha256, open_checkpoint
from model_build.checkpoints.loading import load
from model_build.compile.targets import TARGETS
from model_build.layout import COMPONENTS, MAX_STEPS, SAMPLERS
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.proof.generation import BundlePipeline, Setting, token_ids
from model_build.proof.measure import WORKS, ReferenceSide, take_turns
from model_build.proof.psnr import psnr
from model_build.proof.reference import Reference
from model_build.proof.trial import trial_inputs
from runtime.bundles.bundle import fetch_bundle, kept_graphs, load_bundle
from runtime.bundles.hardware import Machine, this_machine
from runtime.engines import open_engine
from tests.exclusive import alone_in
from tests.tiny_checkpoint import use_old_tokenizer_files, write_tiny_checkpoint


@pytest.fixture(scope="module")
def manifest(tiny_store: Path) -> EngineManifest:
    return catalog.load_manifest(DirectoryStore(tiny_store), "tiny")


@pytest.fixture(scope="module")
def files(tiny_store: Path, manifest: EngineManifest) -> dict[str, Path]:
    return {file.path: tiny_store / catalog.bundle_key("tiny", manifest.version, file.path) for file in manifest.files}


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Reference:
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    return Reference(checkpoint, load(checkpoint))


def build(checkpoint: Path, work: Path, store: Path, **plan: object) -> tuple[EngineManifest, dict[str, object], str]:
    told = Console(file=io.StringIO(), width=100)
    settings = {"targets": list(TARGETS), "verify_steps": 4, "repeats": 0, "name": "tiny", **plan}
    wanted = Plan(checkpoint=str(checkpoint), work=work, **settings)  # type: ignore[arg-type]
    with alone_in(work):
        made = Build(wanted, DirectoryStore(store), BuildProgress(told)).run()
    return *made, told.file.getvalue()  # type: ignore[attr-defined]


def test_the_manifest(manifest: EngineManifest, tiny_checkpoint: Path) -> None:
    assert manifest.version == manifest.content_version()
    assert manifest.checkpoint_sha256 == open_checkpoint(str(tiny_checkpoint)).sha256
    assert [target.name for target in manifest.targets] == [
        *("openvino-int8", "openvino-bf16", "openvino-fp32", "onnx-cpu")
    ]
    assert all(tuple(target.components) == COMPONENTS for target in manifest.targets)
    int8, bf16, fp32, onnx = manifest.targets
    assert (int8.precision, int8.requires.cpu_features, int8.options) == ("int8", ["avx512_vnni"], {})
    assert set(int8.files).isdisjoint(fp32.files)
    assert int8.components["unet"] == "openvino-int8/unet.xml"
    assert (bf16.files, bf16.components) == (fp32.files, fp32.components), "one set of weights, two precisions"
    assert {bf16.options["INFERENCE_PRECISION_HINT"], fp32.options["INFERENCE_PRECISION_HINT"]} == {"bf16", "f32"}
    assert bf16.requires.cpu_features == ["avx512_bf16"]
    assert openvino.__version__.startswith(bf16.requires.version.rsplit(".", 1)[0])
    assert onnx.components["unet"] == "onnxruntime/unet.onnx"
    assert (manifest.samplers.names, manifest.samplers.max_steps) == (list(SAMPLERS), MAX_STEPS)
    assert (manifest.defaults.width, manifest.defaults.height) == (64, 64)
    limits = manifest.limits
    assert (limits.min_size, limits.max_size, limits.max_pixels, limits.multiple_of) == (32, 128, 8192, 8)
    assert np.array(manifest.latents.preview).shape == (5, 3)


def test_the_report_is_beside_the_files_of_the_manifest(tiny_store: Path, manifest: EngineManifest) -> None:
    report = json.loads((tiny_store / catalog.bundle_key("tiny", manifest.version, "report.json")).read_text())
    assert "report.json" not in {file.path for file in manifest.files}
    for target in report["targets"]:
        images = {name: value for name, value in target["psnr"].items() if name.startswith("image/")}
        assert images.keys() == {f"image/{sampler}" for sampler in SAMPLERS}
        assert min(images.values()) >= TARGETS[target["name"]].psnr_floor


def test_what_rows_cost_is_published_beside_it(
    tiny_store: Path, tiny_checkpoint: Path, tiny_work: Path, tmp_path: Path
) -> None:
    assert tiny_store.exists(), "its stages are finished"
    work = shutil.copytree(tiny_work / "tiny", tmp_path / "work" / "tiny").parent
    store = DirectoryStore(tmp_path / "store")
    made, _, _ = build(tiny_checkpoint, work, tmp_path / "store", targets=["openvino-fp32"], repeats=1)
    costs = load_row_costs(store, "tiny", made.version)
    assert costs is not None
    assert set(costs.targets) == {"openvino-fp32"}
    assert {1, 2, 4} <= set(costs.targets["openvino-fp32"])
    assert costs.row_cap("openvino-fp32", costs.processor, costs.threads) in {2, 4, 8, 16}


def test_the_report_lists_the_layers_left_out_of_int8(tiny_store: Path, manifest: EngineManifest) -> None:
    report = json.loads((tiny_store / catalog.bundle_key("tiny", manifest.version, "report.json")).read_text())
    told = next(target["quantization"] for target in report["targets"] if target["name"] == "openvino-int8")
    assert told["text_encoder"] == {"weights": "int8", "activations": "float"}
    for component in ("unet", "vae_decoder"):
        left_out = told[component]["left_out"]
        assert left_out
        assert told[component]["quantized"] > 4 * len(left_out)
        assert sum(found["work_share"] for found in left_out) <= 0.1
        assert [found["error_share"] for found in left_out] == sorted(
            (found["error_share"] for found in left_out), reverse=True
        )
    assert "unet.conv_in" in {name for found in told["unet"]["left_out"] for name in found["layers"]}
    assert not any("quantization" in target for target in report["targets"] if target["name"] != "openvino-int8")


def test_int8_is_computed_in_int8(files: dict[str, Path]) -> None:
    core = openvino.Core()
    for component in ("unet", "vae_decoder"):
        compiled = core.compile_model(files[f"openvino-int8/{component}.xml"], "CPU")
        kinds = [
            str(node.get_rt_info()["runtimePrecision"].astype(str))
            for node in compiled.get_runtime_model().get_ordered_ops()
            if str(node.get_rt_info()["layerType"].astype(str)) in ("Convolution", "FullyConnected")
        ]
        assert sum(kind in ("u8", "i8") for kind in kinds) > 0.7 * len(kinds), kinds


def test_the_outputs_of_an_ir_keep_the_names_the_runtime_asks_for(files: dict[str, Path]) -> None:
    core = openvino.Core()
    models = {component: core.read_model(files[f"openvino/{component}.xml"]) for component in COMPONENTS}
    assert {name: [output.get_any_name() for output in model.outputs] for name, model in models.items()} == {
        "text_encoder": ["prompt_embeds"],
        "unet": ["noise_pred"],
        "vae_decoder": ["image"],
        "vae_encoder": ["mean", "std"],
    }


def test_weights_are_stored_in_half(manifest: EngineManifest, tiny_checkpoint: Path) -> None:
    stored = sum(path.stat().st_size for path in tiny_checkpoint.rglob("*.safetensors"))
    for files in ("openvino/", "onnxruntime/", "openvino-int8/"):
        weights = [file for file in manifest.files if file.path.startswith(files) and not file.path.endswith(".xml")]
        assert sum(file.size for file in weights) < (0.8 if "int8" in files else 1.4) * stored


def test_nothing_of_this_machine_is_in_a_bundle(files: dict[str, Path], tiny_work: Path) -> None:
    for path, local in files.items():
        content = local.read_bytes()
        assert str(tiny_work).encode() not in content, path
        assert b"site-packages" not in content, path


@pytest.mark.parametrize("target", ["openvino-fp32", "onnx-cpu"])
def test_rows_of_any_number_size_and_timestep(
    target: str, manifest: EngineManifest, files: dict[str, Path], reference: Reference
) -> None:
    bundle = BundlePipeline(manifest, target, files, threads=1)
    random = np.random.Generator(np.random.Philox(1))
    for rows, height, width in ((1, 8, 8), (3, 5, 12), (5, 7, 9), (2, 16, 4)):
        inputs = {
            "latents": random.standard_normal((rows, 4, height, width), np.float32),
            "timestep": random.uniform(0, 999, rows).astype(np.float32),
            "prompt_embeds": random.standard_normal((rows, 77, 32), np.float32),
        }
        (wanted,), (found,) = reference.component("unet", inputs), bundle.component("unet", inputs)
        assert found.shape == inputs["latents"].shape
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
        for row in range(rows):
            alone = bundle.component("unet", {name: value[row : row + 1] for name, value in inputs.items()})[0]
            assert np.abs(found[row : row + 1] - alone).max() < 1e-4 * np.abs(wanted).max()
        latents = {"latents": inputs["latents"]}
        (wanted,), (found,) = reference.component("vae_decoder", latents), bundle.component("vae_decoder", latents)
        assert found.shape == (rows, 3, 8 * height, 8 * width)
        assert psnr(wanted, found, peak=1.0) > 80
        image = {"image": wanted}
        for wanted_, found_ in zip(
            reference.component("vae_encoder", image), bundle.component("vae_encoder", image), strict=True
        ):
            assert found_.shape == inputs["latents"].shape
            assert np.abs(found_ - wanted_).max() < 1e-4 * max(1.0, np.abs(wanted_).max())


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
def test_guided_and_not(
    guidance: float, manifest: EngineManifest, files: dict[str, Path], reference: Reference
) -> None:
    setting = Setting("a red cat", 64, 72, 3, guidance, "euler_a", seed=7)
    wanted = reference.generate(setting)
    found = BundlePipeline(manifest, "onnx-cpu", files, threads=1).generate(setting)
    assert wanted.shape == found.shape == (72, 64, 3)
    assert wanted.std() > 0.05
    assert psnr(wanted, found, peak=1.0) > 60


def test_both_sides_are_timed_in_turns(manifest: EngineManifest, files: dict[str, Path], tiny_checkpoint: Path) -> None:
    setting = Setting("a red cat", 64, 64, 2, 7.5, "ddim")
    ids = token_ids(files[manifest.text.tokenizer], manifest.text, "", setting.prompt)
    done: list[int] = []
    found = take_turns(
        ReferenceSide(open_checkpoint(str(tiny_checkpoint)), threads=1),
        partial(BundlePipeline, manifest, "onnx-cpu", files, threads=1),
        {**{name: trial_inputs(name, manifest, ids, 64, 64) for name in COMPONENTS}, "image": setting},
        repeats=1,
        advance=lambda: done.append(1),
    )
    assert tuple(found) == WORKS
    assert len(done) == len(WORKS)
    assert all(reading.seconds > 0 for pair in found.values() for reading in pair)
    diffusers_peak, bundle_peak = (reading.peak_bytes for reading in found["image"])
    assert 0 < bundle_peak < diffusers_peak, "one of the two processes never loads torch"


def test_token_ids_are_those_of_the_pipeline(
    manifest: EngineManifest, files: dict[str, Path], reference: Reference
) -> None:
    prompts = ("", "A RED  cat!", "naïve café, 猫 🐈", "one " * 60)
    wanted = reference.pipeline.tokenizer(
        list(prompts), padding="max_length", max_length=manifest.text.max_length, truncation=True, return_tensors="np"
    ).input_ids
    assert np.array_equal(token_ids(files[manifest.text.tokenizer], manifest.text, *prompts), wanted)


def test_v_prediction_and_old_tokenizer_files(tmp_path: Path, tiny_work: Path) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint", "v_prediction")
    reader = Tokenizer.from_file(str(checkpoint / "tokenizer" / "tokenizer.json"))
    use_old_tokenizer_files(checkpoint)
    store = tmp_path / "store"
    made, report, _ = build(checkpoint, tiny_work, store, name="tiny-v", targets=["openvino-fp32"], max_size=96)
    assert made.prediction_type == "v_prediction"
    assert made.limits.max_size == 96
    (target,) = report["targets"]  # type: ignore[misc]
    assert min(target["psnr"][f"image/{sampler}"] for sampler in SAMPLERS) >= 40  # type: ignore[index]
    converted = Tokenizer.from_file(str(store / catalog.bundle_key("tiny-v", made.version, "tokenizer.json")))
    assert converted.encode("a red cat").ids == reader.encode("a red cat").ids


def test_unchanged_stages_are_skipped_and_said_so(
    tiny_store: Path, tiny_checkpoint: Path, tiny_work: Path, tmp_path: Path
) -> None:
    with alone_in(tiny_work):  # a copy: who else builds in that folder meanwhile changes nothing here
        work = shutil.copytree(tiny_work / "tiny", tmp_path / "work" / "tiny").parent
    build(tiny_checkpoint, work, tmp_path / "store")
    made, _, said = build(tiny_checkpoint, work, tmp_path / "store")
    lines = [line for line in said.splitlines() if not line.startswith(("checkpoint", "publish"))]
    assert len(lines) == 4 + 4 + 4 + 4 + 4 + 6
    assert all(line.endswith("unchanged, skipped") for line in lines)
    assert catalog.current_version(DirectoryStore(tmp_path / "store"), "tiny") == made.version


def test_defaults_that_the_limits_refuse(tiny_checkpoint: Path, tiny_work: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildRefused, match=r"^The defaults cannot be made: width must lie between 32 and 128"):
        build(tiny_checkpoint, tiny_work, tmp_path / "store", width=1024)
    with pytest.raises(BuildRefused, match=r"^The defaults cannot be made: sampler must be one of this model's: ddim"):
        build(tiny_checkpoint, tiny_work, tmp_path / "store", sampler="heun")


def test_merged_tokens_are_those_of_diffusers_with_the_same_patch(
    tiny_checkpoint: Path, tiny_work: Path, tmp_path: Path, manifest: EngineManifest
) -> None:
    plan = {"name": "tiny-merged", "targets": ["openvino-fp32"], "token_merging": 0.4}
    made, report, _ = build(tiny_checkpoint, tiny_work, tmp_path / "store", **plan)
    assert (made.token_merging, manifest.token_merging) == (0.4, 0.0)
    assert "token_merging" not in manifest.model_dump()
    (target,) = report["targets"]  # type: ignore[misc]
    assert report["token_merging"] == 0.4
    assert _predicted_at_two_starts(tmp_path, "tiny-merged") == 1, "a compiled graph that is kept computes the same"
    assert min(target["psnr"][f"image/{sampler}"] for sampler in SAMPLERS) >= 40  # type: ignore[index]
    assert target["psnr"]["unet"] >= 100, "at a size that no halving divides, too"  # type: ignore[index]


def _predicted_at_two_starts(folder: Path, name: str) -> int:
    """How many different results an engine has, compiled and then read from where compiled graphs are kept."""
    bundle = fetch_bundle(DirectoryStore(folder / "store"), name, None, None, this_machine(), folder)
    latents = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    found = set()
    for _ in range(2):
        kept = kept_graphs(bundle, this_machine(), folder, megabytes=64)
        engine = load_bundle(bundle, 1, partial(open_engine, kept=kept)).engine
        embeds = np.repeat(engine.encode(np.ones((1, 77), np.int64))["prompt_embeds"], 2, axis=0)
        found.add(engine.predict(latents, np.array([500, 20], np.float32), prompt_embeds=embeds).tobytes())
    assert list((folder / "compiled").glob("unet-*"))
    return len(found)


def test_engines_that_are_a_targets_own_are_built_verified_and_served(
    tiny_checkpoint: Path, tiny_work: Path, tmp_path: Path
) -> None:
    """As those of GPUs are, in half precision and under fingerprints, with the CPU's provider; with a LoRA in them."""
    lora = tmp_path / "style.safetensors"
    random = torch.Generator().manual_seed(0)
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    made_of = {"lora_A": torch.randn(2, 16, generator=random), "lora_B": torch.randn(16, 2, generator=random)}
    save_file({f"{layer}.{part}.weight": weights for part, weights in made_of.items()}, lora)
    plan = {"name": "tiny-half", "targets": ["onnx-cpu-fp16"], "max_size": 96, "loras": [f"{lora}=0.5"]}
    made, report, _ = build(tiny_checkpoint, tiny_work, tmp_path / "store", **plan)
    (target,) = made.targets
    assert [mark.component for mark in target.fingerprints] == list(COMPONENTS)
    for mark in target.fingerprints:
        assert (mark.checkpoint_sha256, mark.precision, mark.library) == (made.checkpoint_sha256, "fp16", "onnxruntime")
        assert mark.loras == made.loras == [f"{file_sha256(lora)}:0.5"]
        assert target.components[mark.component] == f"onnx-cpu-fp16/{mark.digest()}/{mark.component}.onnx"
    (told,) = report["targets"]  # type: ignore[misc]
    assert 25 <= min(told["psnr"].values()) < 100, "half is not float32"  # type: ignore[index]
    machine = Machine({"onnxruntime": onnxruntime.__version__}, frozenset())
    bundle = fetch_bundle(DirectoryStore(tmp_path / "store"), "tiny-half", None, None, machine, tmp_path / "cache")
    engine = load_bundle(bundle, threads=1).engine
    assert engine.encode(np.zeros((1, 77), np.int64))["prompt_embeds"].shape == (1, 77, 32)
