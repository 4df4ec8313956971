"""Mutants: every kind of change is made, one at a time, and what no test notices is named."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infrastructure.stack import ROOT
from tests.soak.mutants import EQUIVALENT, MODULES, Row
from tests.soak.mutations import mutants


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a < b", ["a <= b", "a >= b"]),
        ("a == b", ["a != b"]),
        ("a is None", ["a is not None"]),
        ("a not in b", ["a in b"]),
        ("a + b", ["a - b"]),
        ("a // b", ["a * b"]),
        ("a and b", ["a or b"]),
        ("not a", ["a"]),
        ("a if b else c", ["c if b else a"]),
        ("a = 5", ["a = 6"]),
        ("a = True", ["a = False"]),
        ("a = min(b, c)", ["a = max(b, c)"]),
        ("a += b", ["a -= b"]),
        ("f(a)", ["pass"]),
        ("def f():\n    return a", ["def f():\n    return None"]),
        ("def f():\n    raise a", ["def f():\n    pass"]),
        ("a: Literal[5]", []),
        ("'said to people'", []),
        ("def f():\n    raise Refused(f'at most {a + 1}')", ["def f():\n    pass"]),
        ("a < b + 1", ["a <= b + 1", "a >= b + 1", "a < b - 1", "a < b + 2"]),
    ],
)
def test_a_change_at_a_time(before: str, after: list[str]) -> None:
    assert [ast.unparse(mutant.tree) for mutant in mutants(before)] == after


def test_names_say_where_and_differ() -> None:
    source = "class A:\n    def f(self, b):\n        return b > 1 or b > 1\n"
    names = [mutant.name for mutant in mutants(source)]
    assert names[1:4] == ["A.f: b > 1 or b > 1 -> b > 1 and b > 1", "A.f: b > 1 -> b >= 1", "A.f: b > 1 -> b <= 1"]
    assert len(set(names)) == len(names)


BOUNDS = """
def low(a):
    return a < 3

def stuck(a):
    while a > 0:
        a -= 1
"""
TEST = """
from ours.bounds import low, stuck

def test_low():
    assert low(1) and not low(5)
    stuck(2)
"""
MEASURE = """
from tests.soak import mutants
mutants.OURS, mutants.CPU_SECONDS = ("ours", "test_bounds", "test_other"), 1
print(mutants.measure("ours.bounds", ["test_bounds.py"], 1000, {"ours.bounds stuck: 1 -> 2": "it ends all the same"}))
mutants.measure("ours.bounds", ["test_other.py"], 1000)
"""


def test_what_no_test_notices_survives(tmp_path: Path) -> None:
    """In a process of its own, since it forks."""
    (tmp_path / "ours").mkdir()
    for name, text in (("ours/bounds", BOUNDS), ("test_bounds", TEST), ("test_other", "def test_it(): pass")):
        (tmp_path / f"{name}.py").write_text(text)
    paths = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "layers/shared")])
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    survivors = [
        "low: a < 3 -> a <= 3",
        "low: 3 -> 4",
        "stuck: a > 0 -> a >= 0",
        "stuck: a > 0 -> a <= 0",
        "stuck: 0 -> 1",
    ]
    row = Row("ours.bounds", 9, 3, 1, [f"ours.bounds {name}" for name in survivors])
    assert ended.stdout == f"{row}\n", ended.stderr
    assert "['test_other.py'] do not use ours.bounds" in ended.stderr


def test_the_table_names_modules_tests_and_mutants_that_exist() -> None:
    from importlib.util import find_spec

    names = set()
    for module, tests in MODULES.items():
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        names |= {f"{module} {mutant.name}" for mutant in mutants(Path(spec.origin).read_text(encoding="utf-8"))}
        assert all((ROOT / test).is_file() for test in tests)
    assert EQUIVALENT.keys() <= names
    assert all(EQUIVALENT.values())
