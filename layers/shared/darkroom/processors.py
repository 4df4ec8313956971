"""Processors: how many threads run at once here, by affinity and by the container's quota."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_GROUPS = "sys/fs/cgroup"


def processors(root: Path = _ROOT) -> int:
    """The processors this process may use, rounded up where its container has a quota of less; at least 1.

    `root` is where `proc` and `sys` are. Source: cgroups(7); Documentation/admin-guide/cgroup-v2.rst of Linux,
    `cpu.max`; Documentation/scheduler/sched-bwc.rst, `cpu.cfs_quota_us`.
    """
    return max(1, min([len(_usable()), *map(math.ceil, _quotas(root))]))


def _usable() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quotas(root: Path) -> Iterator[float]:
    """What each of the groups that this process is in allows, in processors."""
    for folder in groups("cpu", root):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with contextlib.suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                yield int(quota) / int(period)


def groups(controller: str, root: Path = _ROOT) -> Iterator[Path]:
    """The folders of this process's groups, each after those that it is in: any of them may limit what it gets.

    `controller`: of version 1's hierarchies, the one that has it, such as `cpu` or `memory`.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / _GROUPS / controllers  # of version 2, which names no controllers, there is one hierarchy
        # A container may see its group's path on the host, and have its own group's files at the top.
        parts = [part for part in PurePosixPath(path).parts[1:] if part != ".."]
        for depth in range(len(parts) + 1):
            yield top.joinpath(*parts[:depth])
