"""This machine's cores, divided among its replicas as they come and go."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from darkroom.processors import processors as allowed


def processors() -> list[int]:
    """The numbers of the cores that this process may use; none where there is nothing to divide.

    A container's quota belongs to no core, so it is left to the system; so are cores off Linux.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    return cores if allowed() >= len(cores) else []


def divided(cores: Sequence[int], replicas: int) -> list[Sequence[int]]:
    """A share of neighbouring cores for each replica, no two shares differing by more than one core.

    Where there are fewer cores than replicas, each has one, and some have the same.
    """
    edges = [len(cores) * place // replicas for place in range(replicas + 1)] if replicas else []
    return [cores[start : max(end, start + 1)] for start, end in pairwise(edges)]


def confine(pid: int, cores: Collection[int]) -> None:
    """Move every thread of a process to these cores. A thread that begins later is where the one that began it is."""
    moved: set[int] = set()
    # Until a look finds nothing new: a thread may begin others before its own turn has come.
    while threads := _threads(pid) - moved:
        for thread in threads:
            try:
                os.sched_setaffinity(thread, cores)
            except OSError:  # it has ended, or the system took these cores from us meanwhile
                continue
        moved |= threads


def _threads(pid: int) -> set[int]:
    try:
        return {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()}
    except OSError:  # the process has ended
        return set()
