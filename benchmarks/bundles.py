"""Bundles that a benchmark needs, built by the command line as a user would; built once, finished stages are kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PLAIN, MERGED = "sd15", "sd15-merged"
# Calibration and verify draw at a quarter of the area, from two prompts: what a call costs depends on neither.
_BRIEFLY = ("--steps", "20", "--width", "256", "--height", "256", "--verify-steps", "1", "--repeats", "0")
_PROMPTS = "a photograph of an astronaut riding a horse\na small green tree on the left at night\n"


def targets(*names: str) -> list[str]:
    """`--target` options."""
    return [argument for name in names for argument in ("--target", f"openvino-{name}")]


def sd15(checkpoint: Path, work: Path) -> Path:
    """The object store, a folder, with `PLAIN` and `MERGED` (half its tokens). Raises: CalledProcessError."""
    work.mkdir(parents=True, exist_ok=True)
    prompts = work / "prompts.txt"
    prompts.write_text(_PROMPTS)
    briefly = [*_BRIEFLY, "--prompts", str(prompts)]
    build(checkpoint, work, PLAIN, [*targets("int8", "bf16", "fp32"), *briefly])
    return build(checkpoint, work, MERGED, [*targets("int8"), "--token-merging", "0.5", *briefly])


def build(checkpoint: Path, work: Path, name: str, options: Sequence[str]) -> Path:
    """The object store in `work` with a bundle of that name. Raises: CalledProcessError."""
    store = work / "store"
    if not (store / "models" / name / "current.json").exists():
        print(f"building the bundle {name} (minutes, once) ...", flush=True)
        command = [sys.executable, "-m", "model_build", "build", str(checkpoint), "--name", name]
        command += ["--store", str(store), "--work", str(work / "build"), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return store
