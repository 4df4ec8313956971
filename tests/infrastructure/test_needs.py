"""What tests need of a machine: CI has it, and a machine without it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import postgres
from tests.infrastructure.stack import ROOT

SKIPPED = """
import pytest

@pytest.fixture
def server():
    pytest.skip("needs a server: apt-get install server")

def test_fixture(server): pass

@pytest.mark.skipif(True, reason="needs a browser")
def test_mark(): pass

def test_body(): pytest.importorskip("no_such_driver", reason="needs a driver")

def test_other(): pytest.skip("this processor has no bfloat16")
"""


def run(folder: Path, ci: str) -> str:
    (folder / "test_it.py").write_text(SKIPPED)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers/shared")])}
    ended = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(folder), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout


def test_in_ci_nothing_is_skipped_that_could_be_installed(tmp_path: Path) -> None:
    said = run(tmp_path, "true")
    assert "1 failed, 1 skipped, 2 errors" in said
    assert "may not be skipped in CI: Skipped: needs a server: apt-get install server" in said


def test_elsewhere_it_is_skipped_and_told(tmp_path: Path) -> None:
    said = run(tmp_path, "")
    assert "4 skipped" in said
    assert "needs a server: apt-get install server" in said


def test_debians_newest_postgres_is_found_off_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert postgres.programs(tmp_path / "debian") is None
    for folder in ("debian/9.6/bin", "debian/15/bin", "debian/17/bin"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("initdb", "pg_ctl")[: 1 if "17" in folder else 2]:  # of 17 only the client is there
            (tmp_path / folder / name).touch(mode=0o755)
    assert postgres.programs(tmp_path / "debian") == tmp_path / "debian/15/bin"
