"""What the providers link against what folders hold: there, missing, of another major version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darkroom.gpu import PROVIDERS, preload, search_folders, shortages, tensorrt_version, wheel_facts

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


def fill(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def links(provider: str) -> list[str]:
    found: list[str] = wheel_facts()["links"][provider]
    return found


def test_the_providers_link_what_the_pins_bring() -> None:
    assert set(wheel_facts()["links"]) == set(PROVIDERS)
    assert {"libcudart.so.13", "libcudnn.so.9"} <= set(links(CUDA))
    assert {"libnvinfer.so.10", "libnvonnxparser.so.10"} <= set(links(TENSORRT))


def test_nothing_is_missing_where_all_is_there(tmp_path: Path) -> None:
    assert shortages(CUDA, [tmp_path / "empty", fill(tmp_path / "lib", links(CUDA))]) == []


def test_another_major_version_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path, [*links(TENSORRT), "libnvinfer.so.11"])
    (folder / "libnvinfer.so.10").unlink()
    assert [str(shortage) for shortage in shortages(TENSORRT, [folder])] == [
        "libnvinfer.so.10 is missing (libnvinfer.so.11 is of the wrong version)"
    ]


def test_libraries_of_python_distributions_are_found(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    fill(packages / "nvidia" / "cu13" / "lib", [name for name in links(TENSORRT) if "nv" not in name])
    fill(packages / "tensorrt_libs", [name for name in links(TENSORRT) if "nv" in name])
    folders = search_folders({"LD_LIBRARY_PATH": f"{tmp_path}/told:"}, [str(packages)])
    assert folders[:3] == [tmp_path / "told", packages / "nvidia" / "cu13" / "lib", packages / "tensorrt_libs"]
    assert shortages(TENSORRT, folders[:3]) == []


def test_preloading_opens_what_is_there_in_the_order_of_need(tmp_path: Path) -> None:
    folder = fill(tmp_path, ["libcublas.so.13", "libcublasLt.so.13", "libcudart.so.13"])
    opened: list[str] = []

    def open_library(path: str, **_: Any) -> None:
        opened.append(Path(path).name)

    preload(CUDA, [folder], open_library)
    assert opened == ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13"]


@pytest.mark.parametrize(("file", "version"), [("libnvinfer.so.10.14.1", "10.14.1"), ("libnvinfer.so.10", "10")])
def test_the_version_of_tensorrt(tmp_path: Path, file: str, version: str) -> None:
    fill(tmp_path, [file])
    if file != "libnvinfer.so.10":
        (tmp_path / "libnvinfer.so.10").symlink_to(file)
    assert tensorrt_version([tmp_path]) == version
    assert tensorrt_version([tmp_path / "empty"]) is None
