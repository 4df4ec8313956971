"""As many threads as the container may run, and each process its share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom import processors
from darkroom.processors import divide

USABLE = 8


@pytest.fixture
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_usable", lambda: set(range(USABLE)))


def machine(root: Path, groups: str, **files: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.usefixtures("eight_processors")
@pytest.mark.parametrize(
    ("groups", "files", "count"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, USABLE),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, USABLE),
        ("0::/pod/box\n", {"pod/cpu.max": "300000 100000\n", "pod/box/cpu.max": "max 100000\n"}, 3),
        ("0::/../../box\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/on/the/host\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "nonsense\n"}, USABLE),
        ("0::/\n", {}, USABLE),
        ("", {}, USABLE),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, groups: str, files: dict[str, str], count: int) -> None:
    assert processors.processors(machine(tmp_path, groups, **files)) == count


@pytest.mark.usefixtures("eight_processors")
@pytest.mark.parametrize(("quota", "count"), [("250000", 3), ("-1", USABLE), ("50000", 1)])
@pytest.mark.parametrize("controllers", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("path", ["/", "/docker/abc"])
def test_a_quota_of_version_1(tmp_path: Path, quota: str, count: int, controllers: str, path: str) -> None:
    files = {f"{controllers}/cpu.cfs_quota_us": quota, f"{controllers}/cpu.cfs_period_us": "100000\n"}
    groups = f"5:memory:/docker/abc\n4:{controllers}:{path}\n0::/\n"
    assert processors.processors(machine(tmp_path, groups, **files)) == count


@pytest.mark.usefixtures("eight_processors")
def test_without_any_of_it_there_is_affinity(tmp_path: Path) -> None:
    assert processors.processors(tmp_path) == USABLE


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="two processors")
def test_who_was_there_first_makes_room_and_has_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = os.sched_getaffinity(0)
    monkeypatch.setattr(processors, "processors", lambda: len(usable))
    waiting = "import threading, sys\nthreading.Thread(target=sys.stdin.read).start()\nprint('ready', flush=True)"
    sleepers = [
        subprocess.Popen([sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for sleeper in sleepers:
        assert sleeper.stdout
        sleeper.stdout.readline()

    def shares(process: subprocess.Popen[bytes]) -> set[frozenset[int]]:
        threads = [int(thread.name) for thread in Path(f"/proc/{process.pid}/task").iterdir()]
        assert len(threads) == 2
        return {frozenset(os.sched_getaffinity(thread)) for thread in threads}

    first, second = sleepers
    assert shares(first) == {frozenset(usable)}
    divide([first.pid, second.pid])
    ((mine,), (other,)) = shares(first), shares(second)
    assert mine | other == usable
    assert not mine & other
    second.communicate()
    divide([first.pid, second.pid])  # one that has ended is no fault
    divide([first.pid])
    assert shares(first) == {frozenset(usable)}
    first.communicate()


@pytest.mark.usefixtures("eight_processors")
def test_more_processes_than_processors_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[int, set[int]] = {}
    monkeypatch.setattr(processors, "processors", lambda: USABLE)
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, share: given.update({thread: share}), raising=False)
    divide([os.getpid()] * 3 * USABLE)
    assert len(given[os.getpid()]) == 1
