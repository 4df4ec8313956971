"""A costly test is left out only where all that it may depend on is as it was when it passed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infrastructure.stack import ROOT
from tests.keyed import inputs, key

FILES = {
    "constraints.txt": "numpy==1\n",
    "pyproject.toml": (
        "[tool.pytest.ini_options]\nmarkers = ['costly(*files): ']\n"
        "addopts = '-p no:cacheprovider --import-mode=importlib'\n"
    ),
    "data/names.txt": "a name",
    "data/other.txt": "another",
    "layers/shared/darkroom/__init__.py": "",
    "layers/shared/darkroom/low.py": "",
    "room/__init__.py": "",
    "room/door.py": "def lazily():\n    from room import inside\n",
    "room/inside.py": "from . import below\nimport darkroom.low\n",
    "room/below.py": "",
    "room/unused.py": "",
    "room/by_used.py": "",
    "room/by_unused.py": "",
    "tests/unit/conftest.py": (
        "import pytest\n\n@pytest.fixture\ndef used():\n    import room.by_used\n\n"
        "@pytest.fixture\ndef unused():\n    import room.by_unused\n"
    ),
    "tests/unit/test_it.py": (
        "import pytest\nfrom pathlib import Path\nfrom room import door\n\n\n"
        "@pytest.mark.costly('data/names.*')\ndef test_it(used):\n"
        "    assert (Path(__file__).parents[2] / 'data/names.txt').read_text() == 'a name'\n"
    ),
}
COVERED = FILES.keys() - {"data/other.txt", "room/unused.py", "room/by_unused.py"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("conftest.py", "keyed.py", "postgres.py", "exclusive.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    return tmp_path


def run(clone: Path) -> str:
    paths = os.pathsep.join([str(clone), str(clone / "layers/shared")])
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "tests"]
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False).stdout


def test_all_that_it_may_depend_on_is_covered(clone: Path) -> None:
    covered = {
        path.relative_to(clone).as_posix()
        for path in inputs(clone / "tests/unit/test_it.py", ("data/names.*",), ("used",), clone)
    }
    ours = {f"tests/{name}.py" for name in ("conftest", "keyed", "postgres", "exclusive")}
    assert covered == COVERED | ours


@pytest.mark.parametrize("changed", sorted(COVERED))
def test_any_change_of_an_input_changes_the_key(clone: Path, changed: str) -> None:
    test, named = clone / "tests/unit/test_it.py", ("data/names.*",)
    before = key(test, named, ("used",), clone)
    with (clone / changed).open("a") as file:
        file.write("\n")
    assert key(test, named, ("used",), clone) != before


def test_a_file_more_or_less_changes_the_key(clone: Path) -> None:
    test, named = clone / "tests/unit/test_it.py", ("data/names.*",)
    before = key(test, named, ("used",), clone)
    (clone / "data/names.md").touch()
    assert key(test, named, ("used",), clone) != before
    (clone / "data/names.md").unlink()
    (clone / "data/other.txt").unlink()
    assert key(test, named, ("used",), clone) == before


def test_a_name_that_matches_nothing_is_refused(clone: Path) -> None:
    with pytest.raises(ValueError, match="nothing is called data/nothing"):
        key(clone / "tests/unit/test_it.py", ("data/nothing",), (), clone)


def test_it_runs_once_and_again_where_something_changed(clone: Path) -> None:
    assert "1 passed" in run(clone)
    assert "1 skipped" in (again := run(clone))
    assert "it passed with the very same inputs" in again
    (clone / "room/below.py").write_text("VALUE = 1\n")
    assert "1 passed" in run(clone)
    (clone / "data/names.txt").write_text("another name")
    assert "1 failed" in run(clone)
    assert "1 failed" in run(clone)  # what failed is never recorded
    (clone / "data/names.txt").write_text("a name")
    assert "1 skipped" in run(clone)


def test_it_fails_where_it_reads_what_its_key_does_not_cover(clone: Path) -> None:
    test = clone / "tests/unit/test_it.py"
    test.write_text(
        test.read_text().replace(
            "data/names.txt').read_text() == 'a name'", "data/other.txt').exists() and open('data/other.txt')"
        )
    )
    said = run(clone)
    assert "1 failed" in said
    assert "it reads what its mark `costly` does not name: data/other.txt" in said
    assert not (clone / "tests/passed.json").exists()
