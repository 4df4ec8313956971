"""How large the container images are: what their wheels unpack to and weigh to pull, without building an image."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from benchmarks.measure import ROOT, Row, judged, keep

_row = partial(judged, "image", "make bench PART=image")
_CONTAINER = ROOT / "infra" / "container"
_CODE = ("layers/shared/darkroom", "runtime")
# The extras of infra/container/Dockerfile's stages, and the constraints beside the project's own.
_IMAGES = {
    "runtime-cpu": (["runtime", "s3", "onnx"], []),
    "runtime-gpu": (["runtime", "s3", "gpu"], ["constraints-gpu.txt"]),
}
# Its source distribution asks NVIDIA's own index for the wheels; what is measured is without it, and says so.
_ELSEWHERE = "tensorrt"


def run() -> None:
    """Download each image's wheels (no cache of packages is needed, 3 GB of disk is) and add up what is in them."""
    raw = {image: _weigh(extras, constraints) for image, (extras, constraints) in _IMAGES.items()}
    raw["code"] = {"darkroom": {"unpacked": sum(_tree(ROOT / folder) for folder in _CODE), "to_pull": 0}}
    keep("image", list(_rows(raw)), {"images": raw, "left_out": "the Python base image; TensorRT's own libraries"})


def _rows(raw: dict[str, dict[str, dict[str, int]]]) -> Iterator[Row]:
    code = raw["code"]["darkroom"]["unpacked"]
    for image in _IMAGES:
        unpacked = sum(size["unpacked"] for size in raw[image].values()) + code
        to_pull = sum(size["to_pull"] for size in raw[image].values())
        without = " and TensorRT" if image == "runtime-gpu" else ""
        yield _row(f"{image}: code and packages, without base image{without}", unpacked / 1e6, "MB", digits=1)
        yield _row(f"{image}: its wheels, compressed", to_pull / 1e6, "MB", digits=1)


def _weigh(extras: list[str], constraints: list[str]) -> dict[str, dict[str, int]]:
    listed = [sys.executable, str(_CONTAINER / "requirements.py"), *extras]
    lines = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    chosen = [line for line in lines if not line.startswith(_ELSEWHERE)]
    pins = [ROOT / "constraints.txt", *(_CONTAINER / name for name in constraints)]
    limits = [part for path in pins for part in ("--constraint", str(path))]
    with tempfile.TemporaryDirectory() as folder:
        print(f"  downloading what {', '.join(extras)} install ...", flush=True)
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*fetch, "--only-binary", ":all:", "--dest", folder, *limits, *chosen], check=True)
        return {wheel.name: _wheel(wheel) for wheel in sorted(Path(folder).glob("*.whl"))}


def _wheel(path: Path) -> dict[str, int]:
    """What is left of a wheel after slim.py, and what it weighs compressed, as its index has it: with all of it."""
    with zipfile.ZipFile(path) as archive:
        kept = [file for file in archive.infolist() if not any(Path(file.filename).match(name) for name in unused())]
        return {"unpacked": sum(file.file_size for file in kept), "to_pull": path.stat().st_size}


@cache
def unused() -> list[str]:
    """Globs of the files that the images delete of their packages."""
    patterns: list[str] = runpy.run_path(str(_CONTAINER / "slim.py"))["patterns"]()
    return patterns


def _tree(folder: Path) -> int:
    """Bytes of source below `folder`; its byte code, compiled into the image, adds about as much again."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
