"""How much of this machine a process uses, from Linux's /proc; elsewhere nothing is known, and the pool holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from darkroom.processors import processors

_UTIME, _STIME = 11, 12  # fields of /proc/PID/stat after the name in parentheses; clock ticks


@dataclass(frozen=True)
class Used:
    """Percent of all processors since the last look, and percent of all memory."""

    cpu: float
    memory: float


class Usage:
    """Remembers the processor time of each process from one look to the next; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], proc: Path = Path("/proc")) -> None:
        self._clock = clock
        self._proc = proc
        self._seen: dict[int, tuple[float, float]] = {}

    def look(self, pids: Iterable[int]) -> list[Used]:
        """One entry for each process that was there at the last look too."""
        seen, used = {}, []
        for pid in pids:
            try:
                seconds, memory = self._read(pid)
            except (OSError, ValueError, IndexError):  # it has ended, or this is not Linux
                continue
            now = self._clock()
            seen[pid] = (now, seconds)
            before = self._seen.get(pid)
            if before is not None and now > before[0]:
                share = (seconds - before[1]) / (now - before[0]) / processors()
                used.append(Used(min(max(100.0 * share, 0.0), 100.0), memory))
        self._seen = seen
        return used

    def _read(self, pid: int) -> tuple[float, float]:
        fields = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[_UTIME]) + int(fields[_STIME])
        resident = int((self._proc / str(pid) / "statm").read_text().split()[1])
        memory = 100.0 * resident / os.sysconf("SC_PHYS_PAGES")
        return ticks / os.sysconf("SC_CLK_TCK"), memory
