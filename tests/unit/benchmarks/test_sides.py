"""Sides in processes of their own: what is read of them, how an image of more steps is put together, who dies."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.sides import Found, Image, Side, faster, in_turns
from tests.tiny_checkpoint import write_tiny_checkpoint


def test_missing_steps_are_added_as_long_as_those_measured() -> None:
    image = Image(wall=[3.0, 5.0, 7.0, 8.0], cpu=[6.0, 10.0, 14.0, 16.0])  # encode 1, three steps of 2, decode 1
    assert image.step("wall") == 2.0
    assert image.seconds(20, "wall") == 42.0
    assert image.seconds(3, "cpu") == 16.0, "as measured"


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    def found(*steps: float) -> Found:
        return Found("a", 0, 0, 0, [Image([step, 2 * step, 2 * step + 1], [0.0, 1.0, 2.0]) for step in steps])

    assert faster(found(10, 30, 20), found(1, 1, 10), None) == 10.0


def test_sides_take_turns_and_one_that_dies_stops_no_other(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    told = {"folder": str(folder), "threads": 1}
    sides = [
        Side("f32", "diffusers", {**told, "dtype": "float32"}),
        Side("nowhere", "diffusers", {**told, "folder": str(tmp_path / "none"), "dtype": "float32"}),
        Side("none", "no such kind", told),
    ]
    found, died = in_turns(sides, rounds=2, steps=2, kept=tmp_path / "results" / "group.json")
    assert [len(image.wall) for image in found["f32"].images] == [3, 3]
    assert all(image.wall == sorted(image.wall) for image in found["f32"].images)
    assert 0 < found["f32"].loaded < found["f32"].first
    assert found["f32"].peak > 1e8
    assert died["none"] == "KeyError: 'no such kind'"
    assert set(died) == {"none", "nowhere"}


def _fake(path: Path, then: str) -> Side:
    """A side that loads and makes its first image, and does this when it is to make another."""
    path.write_text(
        f"""#!/bin/sh
echo '{{"peak": 1}}'; read steps
echo '{{"wall": [1, 2], "cpu": [1, 2], "peak": 1}}'; read steps
{then}
"""
    )
    path.chmod(0o755)
    return Side(path.name, "fake", {"threads": 1}, path)


def test_a_side_that_dies_or_hangs_is_told_and_stops_no_other(tmp_path: Path) -> None:
    lasting = 'while :; do echo \'{"wall": [1, 2, 3], "cpu": [1, 2, 3], "peak": 2}\'; read steps; done'
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    silent.chmod(0o755)
    sides = [
        _fake(tmp_path / "dies", "echo out of luck >&2"),
        Side("silent", "fake", {"threads": 1}, silent, patience=0.01),
        _fake(tmp_path / "lasts", lasting),
    ]
    found, died = in_turns(sides, rounds=2, steps=2, kept=tmp_path / "group.json")
    assert list(found) == ["lasts"]
    assert [image.wall for image in found["lasts"].images] == [[1, 2, 3]] * 2
    assert died == {"silent": "no answer in 0.01 s", "dies": "out of luck"}


def test_a_group_that_is_kept_is_not_measured_again(tmp_path: Path) -> None:
    side = Side("a", "nothing", {"threads": 1}, Path(sys.executable))
    kept = tmp_path / "group.json"
    _, died = in_turns([side], rounds=1, steps=2, kept=kept)
    assert died
    told = json.loads(kept.read_text())
    told["found"]["a"] = {"name": "a", "loaded": 1.0, "first": 2.0, "peak": 3, "images": [{"wall": [1], "cpu": [1]}]}
    kept.write_text(json.dumps(told))
    assert in_turns([side], rounds=1, steps=2, kept=kept)[0]["a"].images == [Image([1], [1])]
    assert not in_turns([side], rounds=2, steps=2, kept=kept)[0], "asked for otherwise, it is measured"
