"""What is recorded of trajectories, with engines that only count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from model_build.int8.calibration import collect, settings
from model_build.int8.calls import samples, save
from model_build.layout import CALIBRATION_STEPS, SAMPLERS


class Trajectories:
    """Stands for a BundlePipeline: every image is two guided UNet calls and a decoding."""

    def __init__(self) -> None:
        self.engines: dict[str, Any] = dict.fromkeys(("unet", "vae_decoder"), lambda inputs: [inputs["latents"]])
        self._image = 0

    def generate(self, setting: Any) -> None:
        self._image += 1
        for step in (1, 2):
            rows = np.array([10 * self._image + step, -10 * self._image - step], np.float32)
            feed = {"latents": rows.reshape(2, 1, 1, 1), "timestep": rows}
            (found,) = self.engines["unet"](feed)
            assert found is feed["latents"]
        self.engines["vae_decoder"]({"latents": np.full((1, 1, 1, 1), self._image, np.float32)})


def test_rows_of_a_guided_call_are_kept_in_turns(tmp_path: Path) -> None:
    done: list[int] = []
    found = collect(Trajectories(), [SimpleNamespace()] * 2, lambda: done.append(1))  # type: ignore[arg-type, list-item]
    assert len(done) == 2
    save(found, tmp_path)
    unet, decoder = samples(tmp_path, "unet"), samples(tmp_path, "vae_decoder")
    assert [call["timestep"].tolist() for call in unet] == [[11.0], [-12.0], [21.0], [-22.0]]
    assert all(call["latents"].shape == (1, 1, 1, 1) for call in (*unet, *decoder))
    assert [float(call["latents"].item()) for call in decoder] == [1.0, 2.0]
    assert samples(tmp_path, "text_encoder") == []


def test_every_prompt_has_its_own_sampler_and_seed() -> None:
    found = settings(["a", "b", "c"], 64, 32, 7.5)
    assert [setting.sampler for setting in found] == list(SAMPLERS[:3])
    assert [setting.seed for setting in found] == [0, 1, 2]
    assert {(setting.width, setting.height, setting.steps) for setting in found} == {(64, 32, CALIBRATION_STEPS)}
