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
    for requirement in waiting:
        if unknown := requirement.extras - set(distribution(requirement.name).metadata.get_all("Provides-Extra") or ()):
            raise ValueError(
                f"{requirement.name} as installed here has no extra {', '.join(unknown)}; install it again."
            )
    counted: dict[str, frozenset[str]] = {}
    total = 0
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        before = counted.get(name, frozenset())
        if name in counted and requirement.extras <= before:
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # required elsewhere than here, e.g. for another system
            continue
        total += 0 if name in counted else _bytes(installed, without)
        counted[name] = before | requirement.extras
        for text in installed.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
            ):
                waiting.append(needed)
    return total / 1e6


def _bytes(installed: Distribution, without: Collection[str]) -> int:
    files = [file for file in installed.files or () if not any(file.match(pattern) for pattern in without)]
    paths = [Path(str(installed.locate_file(file))) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file())
