"""Which ControlNets fit a checkpoint, and what they hand to its UNet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import Checkpoint, open_checkpoint
from model_build.checkpoints.controlnet import control_spec, open_controlnets, residuals
from model_build.proof.control import ControlSetting, control_image


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(str(tiny_checkpoint))


@pytest.fixture
def changed(tmp_path: Path, tiny_controlnets: dict[str, str]) -> Callable[..., str]:
    def changed(**config: Any) -> str:
        folder = Path(tiny_controlnets["canny"])
        content = {**json.loads((folder / "config.json").read_text()), **config}
        (tmp_path / "config.json").write_text(json.dumps(content))
        (tmp_path / "weights.safetensors").write_bytes(b"")
        return str(tmp_path)

    return changed


def test_what_they_are_and_what_the_manifest_says(checkpoint: Checkpoint, tiny_controlnets: dict[str, str]) -> None:
    canny, depth = sources = open_controlnets(tiny_controlnets, checkpoint)
    assert (canny.type, canny.component) == ("canny", "controlnet_canny")
    assert canny.sha256 != depth.sha256
    assert open_controlnets(tiny_controlnets, checkpoint) == sources
    spec = control_spec(sources, checkpoint)
    assert spec is not None
    assert [(net.type, net.component) for net in spec.nets] == [
        ("canny", "controlnet_canny"),
        ("depth", "controlnet_depth"),
    ]
    assert control_spec((), checkpoint) is None


def test_the_residuals_of_stable_diffusion_1() -> None:
    found = [(residual.channels, residual.shrink) for residual in residuals({})]
    assert found == [
        *[(320, 1)] * 3,
        *[(320, 2), (640, 2), (640, 2)],
        *[(640, 4), (1280, 4), (1280, 4)],
        *[(1280, 8)] * 3,
        (1280, 8),
    ]
    assert [residual.name for residual in residuals({})][-2:] == ["down_residual_11", "mid_residual"]


def test_blocks_with_numbers_of_layers_of_their_own() -> None:
    config = {"block_out_channels": (8, 16), "layers_per_block": [1, 2]}
    assert [(r.channels, r.shrink) for r in residuals(config)] == [(8, 1), (8, 1), (8, 2), (16, 2), (16, 2), (16, 2)]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"_class_name": "T2IAdapter"}, "is a T2IAdapter; only a ControlNetModel can be built"),
        (
            {"cross_attention_dim": 768},
            "another checkpoint: its cross_attention_dim is 768, the UNet's 32",
        ),
        ({"block_out_channels": [16, 64]}, "its block_out_channels is"),
        ({"conditioning_embedding_out_channels": [8, 16]}, "takes images of another scale"),
        ({"global_pool_conditions": True}, "has global_pool_conditions set"),
    ],
)
def test_what_does_not_fit_is_refused(
    checkpoint: Checkpoint, changed: Callable[..., str], config: dict[str, Any], said: str
) -> None:
    with pytest.raises(BuildRefused, match=said):
        open_controlnets({"canny": changed(**config)}, checkpoint)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Canny!": "."}, "Canny! is no type of a ControlNet"),
        ({"canny": "/nowhere"}, "There is no folder /nowhere"),
    ],
)
def test_what_is_no_controlnet_is_refused(checkpoint: Checkpoint, given: dict[str, str], said: str) -> None:
    with pytest.raises(BuildRefused, match=said):
        open_controlnets(given, checkpoint)


def test_a_folder_of_something_else(checkpoint: Checkpoint, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildRefused, match=r"has no config\.json"):
        open_controlnets({"canny": str(tmp_path)}, checkpoint)
    with pytest.raises(BuildRefused, match="is a UNet2DConditionModel"):
        open_controlnets({"canny": str(tiny_checkpoint / "unet")}, checkpoint)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BuildRefused, match="is a pickle"):
        open_controlnets({"canny": str(tmp_path)}, checkpoint)


def test_a_control_image_is_edges_and_the_same_for_the_same_seed() -> None:
    image = control_image(64, 48)
    assert image.shape == (3, 48, 64)
    assert set(np.unique(image)) == {0, 1}
    assert 0.01 < image.mean() < 0.5
    assert np.array_equal(image, control_image(64, 48))
    assert not np.array_equal(image, control_image(64, 48, seed=1))


def test_when_control_acts() -> None:
    assert [ControlSetting("canny", 1.0, 0.25, 0.75).acts(step, 4) for step in range(4)] == [False, True, True, False]
