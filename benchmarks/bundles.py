"""Bundles of a benchmark's checkpoint, built by the command line as a user would; stages that are finished are kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PLAIN, MERGED = "sd15", "sd15-merged"
# Calibration and verify draw at a quarter of the area, from two prompts: what a call costs depends on neither.
_BRIEFLY = ("--width", "256", "--height", "256", "--verify-steps", "1", "--repeats", "0")
_PROMPTS = "a photograph of an astronaut riding a horse\na small green tree on the left at night\n"
_TARGETS = {
    PLAIN: ("--target", "openvino-int8", "--target", "openvino-bf16", "--target", "openvino-fp32"),
    MERGED: ("--target", "openvino-int8", "--token-merging", "0.5"),
}


def build(checkpoint: Path, work: Path) -> Path:
    """The object store, a folder, that has both bundles. Raises: CalledProcessError."""
    store, prompts = work / "store", work / "prompts.txt"
    prompts.write_text(_PROMPTS)
    for name, options in _TARGETS.items():
        if (store / "models" / name / "current.json").exists():
            continue
        print(f"building the bundle {name} (minutes, once) ...", flush=True)
        command = [sys.executable, "-m", "model_build", "build", str(checkpoint), "--name", name]
        command += ["--store", str(store), "--work", str(work / "build"), *options, *_BRIEFLY]
        subprocess.run([*command, "--steps", "20", "--prompts", str(prompts)], check=True, stdout=subprocess.DEVNULL)
    return store
