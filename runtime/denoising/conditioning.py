"""Conditioning: what the UNet is told besides latents and timesteps, from prompts, size and guidance scale."""

from __future__ import annotations

import numpy as np

from darkroom.bundles.manifest import EngineManifest
from darkroom.errors import GenerationInvalid
from runtime.arrays import Floats, Ids
from runtime.engines import Engine


class Conditioning:
    """Makes the UNet's further inputs. Every method is called from the engine's own thread."""

    def __init__(self, engine: Engine, manifest: EngineManifest, empty_prompt: Ids) -> None:
        """`empty_prompt` is the empty prompt's token ids, int64 [1, L], whose embedding is kept."""
        self._engine = engine
        self._text = manifest.text
        self._names = ("prompt_embeds", *manifest.conditions)
        self._empty_prompt = empty_prompt
        self._empty: dict[str, Floats] | None = None

    def rows(
        self, prompt: Ids, negative: Ids | None, width: int, height: int, guidance_scale: float
    ) -> dict[str, Floats]:
        """By the names of the UNet's inputs, float32 [1, ...]; with a negative prompt [2, ...], its row first.

        Raises: GenerationInvalid; whatever the engine raises.
        """
        outputs = self._encoded(prompt)
        if negative is not None:
            first = self._encoded(negative)
            if self._text.zero_negative and np.array_equal(negative, self._empty_prompt):
                first = {name: np.zeros_like(value) for name, value in first.items()}
            outputs = {name: np.concatenate([first[name], value]) for name, value in outputs.items()}
        rows = 1 if negative is None else 2
        # The image is asked for at this size, not cropped: original size, top left corner, target size.
        outputs["time_ids"] = np.repeat(np.array([[height, width, 0, 0, height, width]], np.float32), rows, axis=0)
        outputs["guidance"] = np.full(rows, guidance_scale, np.float32)
        return {name: outputs[name] for name in self._names}

    def _encoded(self, ids: Ids) -> dict[str, Floats]:
        """One prompt a call, so that its embedding depends on no other."""
        if not np.array_equal(ids, self._empty_prompt):
            return self._encode(ids)
        if self._empty is None:
            self._empty = self._encode(ids)
        return self._empty

    def _encode(self, ids: Ids) -> dict[str, Floats]:
        outputs = self._engine.encode(ids)
        if not all(np.isfinite(value).all() for value in outputs.values()):
            raise GenerationInvalid
        return outputs
