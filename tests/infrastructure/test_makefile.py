"""make, in a copy of the root, with a Python of any version whose environments install nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infrastructure.stack import ROOT

# Runs what `-c` gives it as its version would; `-m venv` makes a folder with itself as Python; the rest is only logged.
PYTHON = """#!{executable}
import os, shutil, sys
from pathlib import Path
version = {version}
with Path({log!r}).open("a") as log:
    log.write(" ".join(["%d.%d" % version[:2], *sys.argv[1:]]) + "\\n")
if sys.argv[1] == "-c":
    sys.version_info = version
    exec(sys.argv[2])
elif sys.argv[1:3] == ["-m", "venv"]:
    folder = Path(sys.argv[-1])
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    if not (folder / "bin/python").exists():  # as venv does where another's is left
        shutil.copy(__file__, folder / "bin/python")
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\\nversion = %d.%d.%d\\n" % version)
"""


class Clone:
    """The files that make reads, in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, root)

    def python(self, *version: int) -> str:
        program = self.root / f"python{version[0]}.{version[1]}.{version[2]}"
        program.write_text(PYTHON.format(executable=sys.executable, version=version, log=str(self.log)))
        program.chmod(0o755)
        return str(program)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            ["make", *arguments], cwd=self.root, env=clean, capture_output=True, text=True, timeout=60, check=False
        )

    def called(self, what: str) -> list[str]:
        """The lines of the log that hold it, each beginning with the version that was called."""
        return [line for line in self.log.read_text().splitlines() if what in line]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.mark.parametrize("target", ["run", "test", "check", "bench", ".venv-context/installed"])
def test_a_python_that_is_too_old_is_told_before_anything_is_installed(clone: Clone, target: str) -> None:
    ended = clone.make(target, f"PYTHON={clone.python(3, 10, 13)}")
    assert ended.returncode
    assert "Darkroom needs Python 3.11 or newer" in ended.stderr
    assert f"make {target} PYTHON=python3.11" in ended.stderr
    assert "Installing" not in ended.stdout
    assert not clone.called("-m")
    assert not list(clone.root.glob(".venv*"))


def test_the_version_that_is_needed_is_that_of_the_project(clone: Clone) -> None:
    project = clone.root / "pyproject.toml"
    project.write_text(project.read_text().replace('requires-python = ">=3.11"', 'requires-python = ">=3.12"'))
    ended = clone.make("run", f"PYTHON={clone.python(3, 11, 7)}")
    assert "Darkroom needs Python 3.12 or newer" in ended.stderr


@pytest.mark.parametrize("before", [(3, 10, 13), (3, 11, 6), (3, 12, 1)])
def test_the_environment_of_another_python_is_made_anew(clone: Clone, before: tuple[int, int, int]) -> None:
    subprocess.run([clone.python(*before), "-m", "venv", ".venv"], cwd=clone.root, check=True)
    (clone.root / ".venv/installed").touch()
    (clone.root / ".venv/left").touch()
    clone.make(".venv/installed", f"PYTHON={clone.python(3, 11, 7)}")
    assert "version = 3.11.7" in (clone.root / ".venv/pyvenv.cfg").read_text()
    assert len(clone.called("pip install")) == 1
    assert not (clone.root / ".venv/left").exists()
    assert [line.split()[0] for line in clone.called("pip install")] == ["3.11"]


def test_an_environment_of_this_python_is_kept(clone: Clone) -> None:
    python = f"PYTHON={clone.python(3, 11, 7)}"
    assert clone.make(".venv/installed", python).returncode == 0
    (clone.root / ".venv/kept").touch()
    assert clone.make(".venv/installed", python).returncode == 0
    assert not clone.called("-m")
    os.utime(clone.root / "pyproject.toml")  # something was added to it
    os.utime(clone.root / ".venv/installed", (0, 0))
    assert clone.make(".venv/installed", python).returncode == 0
    assert clone.called("pip install")
    assert not clone.called("-m venv")
    assert (clone.root / ".venv/kept").exists()


def test_an_environment_whose_installation_failed_is_not_taken_for_installed(clone: Clone) -> None:
    python = clone.python(3, 11, 7)
    broken = Path(python)
    broken.write_text(broken.read_text() + 'elif "pip" in sys.argv:\n    sys.exit("no such release")\n')
    assert clone.make(".venv/installed", f"PYTHON={python}").returncode
    assert not (clone.root / ".venv/installed").exists()


@pytest.mark.parametrize(
    "named", ["typo", "models/typo", "./typo", "/nowhere/typo", "a/b/c", "empty", "file.bin", "typo/"]
)
def test_a_model_that_is_not_there_is_told_before_anything_is_installed(clone: Clone, named: str) -> None:
    (clone.root / "models").mkdir()
    (clone.root / "empty").mkdir()
    (clone.root / "file.bin").touch()
    ended = clone.make("run", f"MODEL={named}", f"PYTHON={clone.python(3, 11, 7)}")
    assert ended.returncode
    assert f"MODEL={named}: there is no diffusers folder of that name" in ended.stderr
    assert not clone.called("-m")


@pytest.mark.parametrize("named", ["with space", "models/mine", "someone/on-the-hub"])
def test_a_model_that_is_there_or_may_be_on_the_hub_is_built(clone: Clone, named: str) -> None:
    for folder in ("with space", "models/mine"):
        (clone.root / folder).mkdir(parents=True)
        (clone.root / folder / "model_index.json").write_text("{}")
    assert clone.make("run", f"MODEL={named}", f"PYTHON={clone.python(3, 11, 7)}").returncode == 0
    assert clone.called(f"-m model_build build {named} ")
    assert clone.called("-m local")
