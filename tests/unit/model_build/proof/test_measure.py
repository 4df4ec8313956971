"""Two processes take turns; whichever dies is reported in a sentence."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_build import BuildRefused
from model_build.proof.generation import Setting
from model_build.proof.measure import IMAGE, Measurement, row_costs, summary, take_turns

SETTING = Setting("a cat", 64, 64, 4, 7.5, "ddim")
WORK = {"unet": {"latents": np.zeros((2, 4, 8, 8), np.float32)}, IMAGE: SETTING}


@dataclass(frozen=True)
class Recorder:
    """Builds a side that writes who was asked for what, and in which process, to a file both share."""

    name: str
    log: Path
    held: int = 0

    def __call__(self) -> Recorder:
        return self

    def generate(self, setting: Setting) -> np.ndarray:
        assert setting == SETTING
        block = np.ones(self.held, np.uint8)
        self._write(f"image {block.sum()}")
        return np.zeros((64, 64, 3), np.float32)

    def component(self, name: str, inputs: dict[str, Any]) -> list[np.ndarray]:
        assert inputs["latents"].shape == (2, 4, 8, 8)
        self._write(name)
        return []

    def _write(self, work: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{self.name} {work} {os.getpid()}\n")


@dataclass(frozen=True)
class Dying(Recorder):
    def component(self, name: str, inputs: dict[str, Any]) -> list[np.ndarray]:
        os._exit(9)


def test_sides_take_turns_in_processes_of_their_own(tmp_path: Path) -> None:
    log, done = tmp_path / "log", []
    a, b = Recorder("a", log), Recorder("b", log, held=64 << 20)
    found = take_turns(a, b, WORK, repeats=2, advance=lambda: done.append(1))
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [line[0] for line in lines] == ["a", "b"] * 6, "warmed once and timed twice, two pieces of work"
    assert [line[1] for line in lines] == ["unet"] * 6 + ["image"] * 6
    processes = {line[0]: line[-1] for line in lines}
    assert len({*processes.values(), str(os.getpid())}) == 3
    assert len({(line[0], line[-1]) for line in lines}) == 2, "each side keeps its process"
    assert found.keys() == WORK.keys()
    assert len(done) == 2
    assert all(reading.seconds > 0 for pair in found.values() for reading in pair)
    small, large = (reading.peak_bytes for reading in found[IMAGE])
    assert large - small > 32 << 20, "the peak is of the side's own process"


def test_a_side_that_dies(tmp_path: Path) -> None:
    with pytest.raises(BuildRefused, match="A process that was being timed has died"):
        take_turns(Dying("a", tmp_path / "a"), Recorder("b", tmp_path / "b"), WORK, repeats=1, advance=int)


def test_an_interrupt_ends_both(tmp_path: Path) -> None:
    processes: list[int] = []

    def interrupted() -> None:
        processes.extend(int(line.split()[-1]) for line in (tmp_path / "log").read_text().splitlines())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_turns(
            Recorder("a", tmp_path / "log"), Recorder("b", tmp_path / "log"), WORK, repeats=1, advance=interrupted
        )
    assert len(set(processes)) == 2
    for process in set(processes):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_the_median_time_and_the_highest_peak() -> None:
    assert summary([Measurement(3.0, 5), Measurement(1.0, 9), Measurement(2.0, 7)]) == Measurement(2.0, 9)


@dataclass(frozen=True)
class Rows(Recorder):
    def component(self, name: str, inputs: dict[str, Any]) -> list[np.ndarray]:
        self._write(f"{name} {len(inputs['latents'])}")
        return []


def test_a_row_is_timed_in_calls_of_ever_more_rows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = row_costs(Rows("a", log), WORK["unet"], repeats=2)  # type: ignore[arg-type]
    asked = [int(line.split()[2]) for line in log.read_text().splitlines()]
    assert asked == [rows for rows in found for _ in range(3)], "warmed once and timed twice"
    assert list(found)[:3] == [1, 2, 4]
    assert all(cost > 0 for cost in found.values())
