"""Imports: the modules that a piece of work is made of, read off their import statements without importing any."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

# Of darkroom these are left out, with all that only they import. What they say is in a stage's key already (a manifest
# by its content hash, a fingerprint as a parameter), or they move bytes that others make.
OUTSIDE = ("darkroom.bundles.catalog", "darkroom.bundles.fingerprint", "darkroom.bundles.manifest", "darkroom.storage")


def closure(*modules: str) -> dict[str, Path]:
    """Source files by module: these, and all they import of their own packages and of darkroom, however far away.

    An import inside a function counts like any other. A package's `__init__` runs before its modules and is part of it.

    Raises: ModuleNotFoundError for a module that has no source.
    """
    packages = {"darkroom", *(module.partition(".")[0] for module in modules)}
    sources: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in sources or module in OUTSIDE:
            continue
        path = _source(module)
        if path is None:
            raise ModuleNotFoundError(module)
        sources[module] = path
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        waiting += filter(None, (module.rpartition(".")[0], package))
        for name in _imported(path.read_bytes(), package):
            if name.partition(".")[0] in packages and _source(name) is not None:  # else a name in a module
                waiting.append(name)
    return dict(sorted(sources.items()))


@cache
def _imported(source: bytes, package: str) -> tuple[str, ...]:
    """Every name that is imported, absolute; `from a import b` is both `a` and `a.b`."""
    return tuple(_names(ast.parse(source), package))


def _names(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _source(module: str) -> Path | None:
    top, *rest = module.split(".")
    spec = find_spec(top)  # of a submodule it would import the package
    if spec is None or not rest:
        return Path(spec.origin) if spec and spec.origin else None
    for folder in spec.submodule_search_locations or ():
        for path in (Path(folder, *rest, "__init__.py"), Path(folder, *rest[:-1], f"{rest[-1]}.py")):
            if path.is_file():
                return path
    return None
