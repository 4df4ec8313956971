"""How many replicas a machine has room for."""

import os
from pathlib import Path

import pytest

from local.replicas import capacity

PAGE = os.sysconf("SC_PAGE_SIZE")
MACHINE = os.sysconf("SC_PHYS_PAGES") * PAGE


def machine(root: Path, *, quota: str, memory: str, resident: dict[int, int]) -> Path:
    """A container of version 2's groups, and processes with so many bytes resident."""
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/\n")
    (group / "cpu.max").write_text(quota)
    (group / "memory.max").write_text(memory)
    for pid, size in resident.items():
        (root / f"proc/{pid}").mkdir()
        (root / f"proc/{pid}/statm").write_text(f"99999999 {size // PAGE} 0 0 0 0 0")
    return root


@pytest.mark.parametrize(
    ("memory", "resident", "most"),
    [
        (1 << 40, {}, 4),  # of one processor
        (4 << 30, {}, 4),
        (1 << 30, {}, 1),
        (4 << 30, {7: 1 << 30}, 3),  # three quarters of it are for them
        (4 << 30, {7: 1 << 30, 8: 2 << 30}, 1),
        (1 << 20, {7: 1 << 30}, 1),  # what runs, runs
    ],
)
def test_memory_and_processors_bound_it(tmp_path: Path, memory: int, resident: dict[int, int], most: int) -> None:
    root = machine(tmp_path, quota="100000 100000", memory=str(memory), resident=resident)
    assert capacity.most_replicas(resident, root) == most


def test_a_group_without_a_limit_has_the_machines_memory(tmp_path: Path) -> None:
    assert capacity.memory(machine(tmp_path, quota="max 100000", memory="max", resident={})) == MACHINE


def test_groups_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:cpu,cpuacct:/one\n4:memory:/one\n")
    group = tmp_path / "sys/fs/cgroup/memory/one"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("1073741824")
    assert capacity.memory(tmp_path) == 1 << 30


def test_a_process_that_has_ended_needs_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, quota="100000 100000", memory=str(4 << 30), resident={})
    assert capacity.most_replicas([12345], root) == 4
