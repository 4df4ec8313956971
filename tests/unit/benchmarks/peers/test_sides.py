"""Sides in processes of their own: what is read of them, how an image of more steps is put together, who dies."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.peers.sides import Image, Side, faster, in_turns
from tests.tiny_checkpoint import write_tiny_checkpoint


def test_a_step_is_the_median_of_all_but_the_first_which_begins_the_image() -> None:
    image = Image(wall=[3.0, 2.0, 9.0, 2.0, 1.0], cpu=[6.0, 4.0, 4.0, 4.0, 2.0])  # the last one ends it
    assert (image.step(), image.seconds(), image.seconds("cpu")) == (2.0, 17.0, 20.0)


def test_what_passes_between_a_sides_turns_is_not_counted() -> None:
    record = {"moments": [[10, 0], [13, 1], [30, 2]], "engine": [[11, 12], [12.5, 22]]}
    image = Image.of(record, [(9.5, 12), (20, 25), (29, 31)])
    assert image == Image(wall=[2, 6], cpu=[1, 1], engine=3)


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    assert faster([10, 30, 20], [1, 1, 10]) == 10.0


def test_sides_take_turns_and_one_that_dies_stops_no_other(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    arguments = {"folder": str(folder), "threads": 1}
    sides = [
        Side("f32", "diffusers", {**arguments, "dtype": "float32"}),
        Side("nowhere", "diffusers", {**arguments, "folder": str(tmp_path / "none"), "dtype": "float32"}),
        Side("none", "no such kind", arguments),
    ]
    results, died = in_turns(sides, rounds=2, steps=2, turn=0.05, kept=tmp_path / "results" / "group.json")
    assert [len(image.wall) for image in results["f32"].images] == [3, 3]
    assert all(seconds > 0 for image in results["f32"].images for seconds in image.wall)
    assert 0 < results["f32"].loaded < results["f32"].first
    assert results["f32"].peak > 1e8
    assert died["none"] == "KeyError: 'no such kind'"
    assert set(died) == {"none", "nowhere"}


_IMAGE = """echo '{"moments": [[0, 0], [1, 2], [2, 4], [3, 6]], "peak": 2}';"""


def _fake(path: Path, then: str, patience: float = 600) -> Side:
    """A side that loads and makes its first image, and does this when it is to make another."""
    path.write_text(
        f"""#!/bin/sh
echo '{{"peak": 1}}'; read steps
echo '{{"moments": [[0, 0]], "peak": 1}}'; read steps
{then}
"""
    )
    path.chmod(0o755)
    return Side(path.name, "fake", {"threads": 1}, path, patience)


def test_a_side_that_dies_or_hangs_is_told_and_stops_no_other(tmp_path: Path) -> None:
    lasting = f"while :; do {_IMAGE} read asked; done"
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    silent.chmod(0o755)
    sides = [
        _fake(tmp_path / "dies", "echo out of luck >&2"),
        Side("silent", "fake", {"threads": 1}, silent, patience=0.01),
        _fake(tmp_path / "lasts", lasting),
        _fake(tmp_path / "hangs", "while :; do :; done", patience=2),
    ]
    results, died = in_turns(sides, rounds=2, steps=2, turn=0.05, kept=tmp_path / "group.json")
    assert list(results) == ["lasts"]
    assert [image.cpu for image in results["lasts"].images] == [[2, 2, 2]] * 2
    assert died == {"silent": "no answer in 0.01 s", "dies": "out of luck", "hangs": "no answer in 2 s"}


def test_a_side_goes_on_in_its_next_turn(tmp_path: Path) -> None:
    def waiting(name: str, other: str) -> str:
        seen = "\n".join(
            f"touch {tmp_path}/{name}{part}; until [ -e {tmp_path}/{other}{part} ]; do :; done" for part in range(3)
        )
        return f"{seen}\n{_IMAGE} read asked"

    sides = [_fake(tmp_path / "a", waiting("a", "b")), _fake(tmp_path / "b", waiting("b", "a"))]
    results, died = in_turns(sides, rounds=1, steps=2, turn=0.05, kept=tmp_path / "group.json")
    assert list(results) == ["a", "b"]
    assert not died


def test_a_group_that_is_kept_is_not_measured_again(tmp_path: Path) -> None:
    side = Side("a", "nothing", {"threads": 1}, Path(sys.executable))
    kept = tmp_path / "group.json"
    _, died = in_turns([side], rounds=1, steps=2, turn=0.05, kept=kept)
    assert died
    record = json.loads(kept.read_text())
    record["found"]["a"] = {"name": "a", "loaded": 1.0, "first": 2.0, "peak": 3, "images": [{"wall": [1], "cpu": [1]}]}
    kept.write_text(json.dumps(record))
    assert in_turns([side], rounds=1, steps=2, turn=0.05, kept=kept)[0]["a"].images == [Image([1], [1])]
    assert not in_turns([side], rounds=2, steps=2, turn=0.05, kept=kept)[0], "asked for otherwise, it is measured"
