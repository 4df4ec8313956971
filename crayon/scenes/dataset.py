"""The training set: scenes drawn once to disk, and read back at random."""

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crayon.scenes.drawing import IMAGE_SIZE, centres, draw
from crayon.scenes.grammar import Scene, Split, sample_pair, sample_single

PAIR_SHARE = 0.42
_CHUNK = 500


def training_scene(index: int, seed: int) -> tuple[Scene, random.Random]:
    """Scene number `index` of the training set and the generator to draw it with, whatever was drawn before."""
    rng = random.Random(f"crayon:{seed}:{index}")
    if rng.random() < PAIR_SHARE:
        return sample_pair(rng, Split.TRAIN), rng
    return sample_single(rng, Split.TRAIN), rng


def _draw_range(start: int, stop: int, seed: int) -> NDArray[np.uint8]:
    return np.stack([draw(*training_scene(index, seed)) for index in range(start, stop)])


@dataclass(frozen=True)
class DrawnScenes:
    """`images` uint8 (count, 128, 128, 3) on disk, `scenes` in the same order."""

    images: NDArray[np.uint8]
    scenes: list[Scene]

    def __len__(self) -> int:
        return len(self.scenes)


def drawn_scenes(folder: Path, count: int, seed: int, workers: int = 2) -> DrawnScenes:
    """The training set of that size and seed, drawn unless `folder` already holds it."""
    path = folder / f"images-{seed}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished.npy")
        shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
        images = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        starts = range(0, count, _CHUNK)
        stops = [min(start + _CHUNK, count) for start in starts]
        with ProcessPoolExecutor(workers) as pool:
            drawn = pool.map(_draw_range, starts, stops, [seed] * len(stops))
            for start, stop, chunk in zip(starts, stops, drawn, strict=True):
                images[start:stop] = chunk
        images.flush()
        unfinished.rename(path)
    scenes = [training_scene(index, seed)[0] for index in range(count)]
    return DrawnScenes(np.load(path, mmap_mode="r"), scenes)


def to_unit_range(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (count, height, width, 3) as float32 (count, 3, height, width) in [-1, 1]."""
    # A copy, because torch wants memory that it may write to, and the drawings are read from disk.
    tensor = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return tensor.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def to_pixels(images: torch.Tensor) -> NDArray[np.uint8]:
    """float (count, 3, height, width) in [-1, 1] as uint8 (count, height, width, 3)."""
    pixels = (images.detach().float().clamp(-1, 1) + 1).mul_(127.5).round_().to(torch.uint8)
    array: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return array


def crops(data: DrawnScenes, rng: np.random.Generator, count: int, side: int) -> NDArray[np.uint8]:
    """`count` random square crops, uint8 (count, side, side, 3); three in four near an object."""
    taken = np.empty((count, side, side, 3), np.uint8)
    for row, index in enumerate(rng.integers(0, len(data), count)):
        places = centres(data.scenes[index])
        centre = places[rng.integers(len(places))]
        if rng.random() < 0.75:
            corner = [int(c * IMAGE_SIZE - side / 2 + rng.uniform(-40, 40)) for c in centre]
        else:
            corner = [int(c) for c in rng.integers(0, IMAGE_SIZE - side + 1, 2)]
        left, top = (min(max(c, 0), IMAGE_SIZE - side) for c in corner)
        taken[row] = data.images[index, top : top + side, left : left + side]
    return taken
