"""Deletes from an image's packages the files of unused.txt, in the layer that installed them."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path


def patterns() -> list[str]:
    """The lines of unused.txt that are no comments: globs below site-packages."""
    lines = Path(__file__).with_name("unused.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def slim(packages: Path) -> int:
    """Delete them below `packages` -> the bytes saved.

    Raises: FileNotFoundError where a pattern finds nothing, as after an upgrade that moved it.
    """
    saved = 0
    for pattern in patterns():
        matches = list(packages.glob(pattern))
        if not matches:
            raise FileNotFoundError(f"unused.txt names {pattern}, and {packages} has no such file")
        for path in matches:
            saved += path.stat().st_size
            path.unlink()
    return saved


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("purelib"))
    print(f"{slim(where) / 1e6:.0f} MB deleted that no runtime loads")
