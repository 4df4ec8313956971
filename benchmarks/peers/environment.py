"""Peers: what a user would pick today on a CPU; in `.venv-peers`, an environment of their own, made on demand."""

from __future__ import annotations

import json
import shutil
import subprocess
import venv
from pathlib import Path

from benchmarks.measure import ROOT

ENVIRONMENT = ROOT / ".venv-peers"
PYTHON = ENVIRONMENT / "bin" / "python"
# torch goes first and alone, as in the Makefile: its CPU build must be there before the others are resolved.
_PINS = (
    ("torch==2.13.0",),
    (
        "diffusers==0.39.0",
        "litserve==0.2.19",
        "openvino==2026.4.1",
        "openvino-genai==2026.4.1.0",
        "optimum-intel[openvino]==2.2.0",
        "transformers==5.5.4",
    ),
)
_CLI = "from optimum.commands.optimum_cli import main; main()"


def environment() -> bool:
    """Whether the peers' environment is there, made where it was not; False, with the reason told, where it fails."""
    done, wanted = ENVIRONMENT / "installed", json.dumps(_PINS)
    if done.exists() and done.read_text() == wanted:
        return True
    print("Installing optimum-intel, openvino-genai, LitServe into .venv-peers (minutes, once) ...", flush=True)
    venv.create(ENVIRONMENT, with_pip=True)
    for pins in _PINS:
        if subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *pins], check=False).returncode:
            print("The peers cannot be installed; their rows are not measured.", flush=True)
            return False
    done.write_text(wanted)
    return True


def export(checkpoint: Path, folder: Path, weights: str) -> Path | None:
    """The checkpoint as optimum's command line converts it, weights in `fp32` or `int8`; once. Both peers read it.

    None, with the reason told, where that fails.
    """
    if not folder.exists():
        print(f"optimum exports the checkpoint, {weights} ...", flush=True)
        aside = folder.with_name(f"{folder.name}.unfinished")  # so that a folder that is there is whole
        shutil.rmtree(aside, ignore_errors=True)
        arguments = ["export", "openvino", "--model", str(checkpoint), "--task", "text-to-image"]
        command = [str(PYTHON), "-c", _CLI, *arguments, "--weight-format", weights, str(aside)]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            print("optimum cannot export it; what needs it is not measured.", flush=True)
            return None
        aside.rename(folder)
    return folder
