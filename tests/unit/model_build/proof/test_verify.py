"""PSNR, and the refusal of an engine that does not draw what diffusers draws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from darkroom.bundles import catalog
from darkroom.storage.directory import DirectoryStore
from model_build import BuildRefused
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.loading import load
from model_build.compile.targets import TARGETS
from model_build.proof.generation import Setting
from model_build.proof.psnr import psnr
from model_build.proof.reference import Reference
from model_build.proof.verify import verify


@pytest.mark.parametrize(("error", "decibel"), [(0.1, 20.0), (0.01, 40.0), (0.001, 60.0), (0.0, 200.0), (1e-15, 200.0)])
def test_psnr(error: float, decibel: float) -> None:
    wanted = np.linspace(0, 1, 300).reshape(10, 10, 3)
    assert psnr(wanted, wanted + error, peak=1.0) == decibel


def test_psnr_is_relative_to_the_peak() -> None:
    assert psnr(np.zeros(4), np.full(4, 0.1), peak=10.0) == 40.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_agrees_with_nothing(value: float) -> None:
    assert psnr(np.zeros(3), np.array([0.0, value, 0.0]), peak=1.0) == 0.0


def test_the_first_target_below_its_floor_is_refused(tiny_checkpoint: Path, tiny_store: Path) -> None:
    manifest = catalog.load_manifest(DirectoryStore(tiny_store), "tiny")
    files = {file.path: tiny_store / catalog.bundle_key("tiny", manifest.version, file.path) for file in manifest.files}
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    reference = Reference(checkpoint, load(checkpoint))
    settings = [Setting("a red cat", 64, 64, 2, 7.5, sampler) for sampler in ("ddim", "euler_a")]
    done: list[int] = []
    floors = {"onnx-cpu": TARGETS["onnx-cpu"].psnr_floor, "openvino-bf16": 150.0}
    with pytest.raises(BuildRefused, match=r"sampler ddim, target openvino-bf16 agrees .* only; at least 150\.0 dB"):
        verify(reference, manifest, files, floors, settings, 1, lambda: done.append(1))
    assert len(done) == 4, "two references and two images of the target that passed"
