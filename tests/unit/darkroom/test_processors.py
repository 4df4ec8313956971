"""As many threads as the container may run."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom import processors

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
