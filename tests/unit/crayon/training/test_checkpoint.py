"""The bundled checkpoint is what diffusers expects, small, and tied to no machine."""

import json
import logging
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers.utils import logging as transformers_logging

from crayon.judge.evaluate import SUITES, JudgedPicture, contact_sheet, judge_suite, summary, table
from crayon.judge.judge import Marks
from crayon.scenes.drawing import draw
from crayon.training.checkpoint import CHECKPOINT, new_sampler, parameter_count


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(CHECKPOINT, dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture
def _audible() -> Iterator[None]:
    """Lets pytest hear what the libraries otherwise only print."""
    for library in (diffusers_logging, transformers_logging):
        library.enable_propagation()
    yield
    for library in (diffusers_logging, transformers_logging):
        library.disable_propagation()


@pytest.mark.usefixtures("_audible")
def test_loads_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        StableDiffusionPipeline.from_pretrained(CHECKPOINT)
    assert [record.getMessage() for record in caplog.records] == []


def test_is_small(pipeline: StableDiffusionPipeline) -> None:
    assert parameter_count(pipeline.text_encoder, pipeline.unet, pipeline.vae) <= 12_000_000
    assert sum(path.stat().st_size for path in CHECKPOINT.rglob("*")) < 25_000_000


def test_samples_as_it_was_trained(pipeline: StableDiffusionPipeline) -> None:
    trained = {name: value for name, value in new_sampler().config.items() if not name.startswith("_")}
    saved = pipeline.scheduler.config
    assert {name: saved[name] for name in trained} == trained
    assert (saved["prediction_type"], saved["timestep_spacing"]) == ("v_prediction", "trailing")


def test_holds_safetensors_and_no_path_of_this_machine() -> None:
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        if path.suffix == ".json" and path.name != "tokenizer.json":
            assert "_name_or_path" not in json.loads(path.read_text())
            assert "/work" not in path.read_text()
            assert "/home" not in path.read_text()


def test_any_text_gives_a_picture(pipeline: StableDiffusionPipeline) -> None:
    torch.set_num_threads(1)
    prompts = ["a large red circle on a gray background", "", "日本の桜 🌸"]
    images = pipeline(prompts, num_inference_steps=6, guidance_scale=4.0, output_type="np").images
    assert images.shape == (3, 128, 128, 3)
    assert np.isfinite(images).all()
    red, green, blue = images[0, 54:74, 54:74].mean((0, 1))
    assert red > 0.6 > max(green, blue)


def test_a_perfect_generator_is_judged_perfect() -> None:
    suite = SUITES[2]
    scenes = iter(suite.scenes()[:8])

    def generate(prompts: object, seeds: object) -> np.ndarray:
        return np.stack([draw(scene, random.Random(0)) for scene in [next(scenes) for _ in range(8)]])

    small = type(suite)(suite.name, suite.split, suite.pairs, 8, None, 0.8, suite.seed)
    judged = judge_suite(small, generate, chunk=8)
    result = summary(small, judged)
    assert result["all"] == 1.0
    assert result["goal_met"]
    assert result["failed"] == []
    assert "two objects" in table({suite.name: result})


def test_contact_sheet_marks_failures(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    blank = np.zeros((128, 128, 3), np.uint8)
    wrong = Marks(object=False, colour=True, background=True, place=True, size=True)
    right = Marks(object=True, colour=True, background=True, place=True, size=True)
    contact_sheet([JudgedPicture("s", "p", 0, blank, wrong), JudgedPicture("s", "p", 1, blank, right)], path, columns=2)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (128, 256, 3)
    assert sheet[0, 0].tolist() == [255, 0, 0]
    assert sheet[0, 200].tolist() == [0, 0, 0]
