"""`make soak PART=mutants`: change pure modules in small ways, and list the changes that none of their tests notices.

Every mutant is a fork of this process, in which the module is replaced before its tests import it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import os
import random
import resource
import signal
import sys
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.console import Console
from rich.progress import track

from tests.soak.mutations import mutants

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks/results/mutants.json"
# A mutant that has not ended by then, of CPU or in all, is stuck: whoever runs the tests would notice.
CPU_SECONDS, WALL_SECONDS = 60, 240

# Module: its tests.
MODULES = {
    "runtime.denoising.batcher": ("tests/unit/runtime/denoising/test_batcher.py",),
    "runtime.cache.eviction": ("tests/unit/runtime/cache/test_eviction.py",),
    "runtime.serving.admission": ("tests/unit/runtime/serving/test_admission.py",),
    "runtime.serving.unsent": ("tests/unit/runtime/serving/test_unsent.py",),
    "darkroom.fetch.web_address": (
        "tests/unit/darkroom/fetch/test_web_address.py",
        "tests/unit/darkroom/fetch/test_addresses.py",
    ),
}
OURS = ("darkroom", "runtime", "tests")  # imported anew in each fork, with the mutant among them
# What no test can notice, and why.
EQUIVALENT: dict[str, str] = {
    "runtime.denoising.batcher Batcher.pick.urgency: 1 -> 2": "any number above that of the aged sorts after them",
    "runtime.denoising.batcher Batcher.pick: 0 -> 1": "the first candidate sets the rows anew",
    "runtime.cache.eviction Account: 0.0 -> 1.0": "whoever makes one says what it inherits",
    "runtime.cache.eviction Scored.__init__: 0.0 -> 1.0": "all scores are higher by one, and in the same order",
    "runtime.cache.eviction Scored._rank: 0.0 -> 1.0": "all scores are higher by one, and in the same order",
    "runtime.cache.eviction Scored.hit: 1 -> 2": "all are counted twice, and in the same order",
}


@dataclass(frozen=True)
class Row:
    """What came of one module's mutants; `survivors` are those that nobody noticed and nobody explained."""

    module: str
    mutants: int
    killed: int
    equivalent: int
    survivors: list[str]


def main(
    module: Annotated[list[str] | None, typer.Argument(help="modules of the table; all of them by default")] = None,
    most: Annotated[
        int, typer.Option(help="mutants of a module at most; a sample of always the same where fewer")
    ] = 1000,
) -> None:
    """Exit code 1 where a mutant survives."""
    rows = [measure(name, MODULES[name], most) for name in module or MODULES]
    known = {row["module"]: row for row in json.loads(RESULT.read_text(encoding="utf-8"))} if RESULT.exists() else {}
    known |= {row.module: asdict(row) for row in rows}
    kept = [known[name] for name in MODULES if name in known]
    RESULT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    console = Console()
    for row in rows:
        console.print(f"{row.module}: {row.killed} of {row.mutants} noticed, {row.equivalent} make no difference")
        for name in row.survivors:
            console.print(f"  survived: {name}", highlight=False, markup=False, soft_wrap=True)
    if any(row.survivors for row in rows):
        raise SystemExit(1)


def measure(module: str, tests: Sequence[str], most: int, equivalent: dict[str, str] = EQUIVALENT) -> Row:
    """Run a module's tests over a sample of its mutants. Raises: AssertionError, where they fail as the module is."""
    spec = importlib.util.find_spec(module)
    assert spec
    assert spec.origin
    source = Path(spec.origin)
    _pytest("--collect-only", *tests)  # imports once what every fork would import again
    text = source.read_text(encoding="utf-8")
    assert passes(module, source, ast.parse(text), tests), f"{tests} fail without any change"
    assert not passes(module, source, ast.parse(""), tests), f"{tests} do not use {module}"
    everything = list(mutants(text))
    chosen = random.Random(17).sample(everything, most) if most < len(everything) else everything
    survivors = []
    for mutant in track(chosen, module, console=Console(stderr=True)):
        if passes(module, source, mutant.tree, tests):
            survivors.append(f"{module} {mutant.name}")
    unexplained = [name for name in survivors if name not in equivalent]
    known = len(survivors) - len(unexplained)
    return Row(module, len(chosen), len(chosen) - len(survivors), known, unexplained)


def passes(module: str, source: Path, tree: ast.Module, tests: Sequence[str]) -> bool:
    """Whether the tests pass when the module is `tree`; in a process of its own, which is ended where it is stuck."""
    child = os.fork()
    if not child:
        status = 2
        try:
            signal.alarm(WALL_SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            status = _run(module, source, tree, tests)
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return ended == 0


def _run(module: str, source: Path, tree: ast.Module, tests: Sequence[str]) -> int:
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    mutated = types.ModuleType(module)
    mutated.__file__ = str(source)
    mutated.__package__ = module.rpartition(".")[0]
    package = importlib.import_module(mutated.__package__)
    sys.modules[module] = mutated
    setattr(package, module.rpartition(".")[2], mutated)
    exec(compile(tree, str(source), "exec"), mutated.__dict__)  # noqa: S102
    return _pytest("-x", *tests)


def _pytest(*arguments: str) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(pytest.main(["-q", "-p", "no:cacheprovider", *arguments]))


if __name__ == "__main__":
    os.chdir(ROOT)
    typer.run(main)
