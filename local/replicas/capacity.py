"""How many replicas this machine has room for, whatever a scaling policy asks for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from darkroom import processors

_PER_PROCESSOR = 4  # more processes than that only take turns, and keep this one from its own
_MEMORY_SHARE = 0.75  # the rest is this process's, the system's, and what the pictures being drawn take
_UNKNOWN_BYTES = 512 << 20  # of a replica, while none has been seen at work
_ROOT = Path("/")


def most_replicas(pids: Iterable[int], root: Path = _ROOT) -> int:
    """How many may run here, by processors and by memory, at least 1; `pids` are of replicas that are at work.

    What one needs is what the largest of these has resident. `root` is where `proc` and `sys` are.
    """
    largest = max((_resident(pid, root) for pid in pids), default=0) or _UNKNOWN_BYTES
    by_memory = int(_MEMORY_SHARE * memory(root)) // largest
    return max(1, min(_PER_PROCESSOR * processors.processors(root), by_memory))


def memory(root: Path = _ROOT) -> int:
    """Bytes that this process and its children may use together: the machine's, or what its container allows.

    Source: cgroups(7); Documentation/admin-guide/cgroup-v2.rst of Linux, `memory.max`, and
    cgroup-v1/memory.rst, `memory.limit_in_bytes`.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    for folder in processors.groups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # there is none, or it is `max`
                yield int((folder / name).read_text())


def _resident(pid: int, root: Path) -> int:
    try:
        pages = int((root / "proc" / str(pid) / "statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):  # it has ended, or this is not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
