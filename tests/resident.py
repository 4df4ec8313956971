"""What of a mapped file is in this process's memory (Linux)."""

from __future__ import annotations

from pathlib import Path


def resident(path: Path) -> int:
    """kB of its pages that this process has."""
    sizes, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            here = rest.endswith(str(path))
        elif here and name == "Rss:":
            sizes += int(rest.split()[0])
    return sizes
