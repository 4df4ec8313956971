"""Costly tests that have passed with the very same inputs are not run again.

The key of a test covers the bytes of all that it may depend on: its own file, the modules that this imports, directly
or not, the conftests above it with what its fixtures import, the pinned versions, this file and
what its mark names beside. What it opens of the repository while it runs must be among them, or it fails: a key that
forgot something is found out.
"""

from __future__ import annotations

import ast
import fcntl
import functools
import hashlib
import json
import platform
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PASSED = ROOT / "tests/passed.json"  # {test: the key with which it last passed}; written where tests run, and committed
PINNED = ("constraints.txt", "pyproject.toml", "tests/keyed.py")


def inputs(test: Path, named: Sequence[str], fixtures: Collection[str] = (), root: Path = ROOT) -> set[Path]:
    """The files that the key of a test in `test` covers. Raises ValueError where a name of the mark matches nothing."""
    conftests = [folder / "conftest.py" for folder in test.parents if folder.is_relative_to(root)]
    read = {path for path in (*(root / name for name in PINNED), *conftests) if path.is_file()}
    waiting = [test]
    for file in [path for path in read if path.suffix == ".py"]:
        waiting += imported(file, root, frozenset(fixtures))
    for pattern in named:
        matches = [path for path in root.glob(pattern) if path.is_file() and "__pycache__" not in path.parts]
        if not matches:
            raise ValueError(f"{test.name}: nothing is called {pattern}")
        waiting += matches
    while waiting:
        file = waiting.pop()
        read.add(file)
        if file.suffix == ".py":
            waiting += [one for one in imported(file, root) if one not in read]
    return read


@functools.cache
def imported(file: Path, root: Path, fixtures: frozenset[str] | None = None) -> frozenset[Path]:
    """The files of ours that a module imports anywhere in its code, with the packages that they are in.

    Of the fixtures in it only those that are named count, where names are given.
    """
    package = file.parent.relative_to(root).parts
    names: set[str] = set()
    for node in _nodes(ast.parse(file.read_text(encoding="utf-8")), fixtures):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (start, node.module) if part)
            names |= {module, *(f"{module}.{one.name}" for one in node.names)}
    found = set()
    for name in names:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            for room in (root, root / "layers/shared"):
                place = room.joinpath(*parts[:end])
                found |= {path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()}
    return frozenset(found)


def _nodes(tree: ast.AST, fixtures: frozenset[str] | None) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if (
            isinstance(node, ast.FunctionDef)
            and fixtures is not None
            and _is_fixture(node)
            and node.name not in fixtures
        ):
            continue
        yield node
        yield from _nodes(node, fixtures)


def _is_fixture(node: ast.FunctionDef) -> bool:
    return any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)


def key(test: Path, named: Sequence[str], fixtures: Collection[str] = (), root: Path = ROOT) -> str:
    """SHA-256 over the inputs' names and bytes, this Python and this kind of machine."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {platform.system()} {platform.machine()}".encode())
    for file in sorted(inputs(test, named, fixtures, root)):
        digest.update(f"\n{file.relative_to(root).as_posix()}\n".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def passed() -> dict[str, str]:
    known: dict[str, str] = json.loads(PASSED.read_text(encoding="utf-8")) if PASSED.exists() else {}
    return known


def record(test: str, digest: str) -> None:
    with PASSED.open("a+", encoding="utf-8") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)  # each worker of a run writes its own
        kept.seek(0)
        known = json.loads(kept.read() or "{}")
        kept.truncate(0)
        kept.write(json.dumps(dict(sorted({**known, test: digest}.items())), indent=1) + "\n")


_opened: set[str] | None = None


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str):
        _opened.add(arguments[0])


@functools.cache
def _listen() -> None:
    sys.addaudithook(_audit)


@contextmanager
def opened(root: Path = ROOT) -> Iterator[set[Path]]:
    """The files of the repository that this process opens meanwhile, byte code aside; filled in at the end."""
    global _opened
    _listen()
    files: set[Path] = set()
    _opened = set()
    try:
        yield files
    finally:
        names, _opened = _opened, None
        for name in names:
            path = Path(name).resolve()
            inside = (
                path.is_relative_to(root) and path.is_file() and not path.relative_to(root).parts[0].startswith(".")
            )
            if inside and "__pycache__" not in path.parts:
                files.add(path)
