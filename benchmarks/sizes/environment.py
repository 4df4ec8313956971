"""The size of an environment: some distributions and all that they need, as installed here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def megabytes(requirements: Iterable[str], without: Collection[str] = ()) -> float:
    """10^6 bytes of these distributions (`name` or `name[extra]`) and of what they require; an editable one counts its
    requirements only. Files that match a glob of `without` do not count.

    Raises: PackageNotFoundError when one that is asked for is not installed; ValueError when it was without the extra.
    """
    waiting = [Requirement(text) for text in requirements]
    for asked in waiting:
        if unknown := asked.extras - set(distribution(asked.name).metadata.get_all("Provides-Extra") or ()):
            raise ValueError(f"{asked.name} as installed here has no extra {', '.join(unknown)}; install it again.")
    counted: dict[str, frozenset[str]] = {}
    total = 0
    while waiting:
        asked = waiting.pop()
        name = re.sub(r"[-_.]+", "-", asked.name).lower()
        before = counted.get(name, frozenset())
        if name in counted and asked.extras <= before:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:  # required elsewhere than here, e.g. for another system
            continue
        total += 0 if name in counted else _bytes(found, without)
        counted[name] = before | asked.extras
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *asked.extras)):
                waiting.append(needed)
    return total / 1e6


def _bytes(found: Distribution, without: Collection[str]) -> int:
    files = [file for file in found.files or () if not any(file.match(pattern) for pattern in without)]
    paths = [Path(str(found.locate_file(file))) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file())
