"""Ctrl-C leaves no half bundle, the same command goes on from there, and the bundle is that of any other build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom.bundles import catalog
from darkroom.storage.directory import DirectoryStore
from tests.tiny_checkpoint import write_tiny_checkpoint

STOPPED = "Stopped; finished stages are kept, and the same command goes on from there."
PLAN = ["--name", "tiny", "--verify-steps", "1", "--repeats", "0"]


@pytest.fixture
def heeding_interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def started(checkpoint: Path, work: Path, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "model_build", "build", str(checkpoint), *PLAN, "--work", str(work)]
    return subprocess.Popen(
        [*command, "--store", f"file://{store}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


@pytest.mark.costly("model_build/**/*", "layers/shared/darkroom/gpu/*.json")
@pytest.mark.usefixtures("heeding_interrupts")
def test_interrupted_and_resumed_elsewhere(tmp_path: Path, tiny_store: Path) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "another place")
    work, store = tmp_path / "work", tmp_path / "store"

    with started(checkpoint, work, store) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("optimize/text_encoder"):
                break
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert said.splitlines()[-1] == STOPPED
    assert "Traceback" not in said
    assert [path for path in store.rglob("*") if path.is_file()] == []
    assert {path.name for path in (work / "tiny").iterdir()} <= {".lock", "export", "optimize"}

    with started(checkpoint, work, store) as process:
        out, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert all(line.endswith(("unchanged, skipped", " s")) for line in said.splitlines()), "a line a stage and no noise"
    stages = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert stages["export/text_encoder"] == "unchanged, skipped"
    assert stages["export/vae_encoder"].startswith("done in")

    version = catalog.current_version(DirectoryStore(store), "tiny")
    assert out.splitlines()[-1] == f"tiny {version}"
    assert version == catalog.current_version(DirectoryStore(tiny_store), "tiny"), "another process, folder and work"
