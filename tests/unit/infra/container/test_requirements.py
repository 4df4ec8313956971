"""What of pyproject.toml each image installs."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SOURCE = ROOT / "infra" / "container" / "requirements.py"

PYPROJECT = """
[project]
name = "darkroom"
[project.optional-dependencies]
serve = ["numpy==2.4.6", "rich==15.0.0"]
onnx = ["onnxruntime==1.31.1"]
gpu = ["onnxruntime-gpu[cuda,cudnn]==1.31.1"]
build = ["darkroom[serve, onnx]", "rich==15.0.0", "torch==2.13.0"]
"""


@pytest.fixture
def requirements():
    spec = importlib.util.spec_from_file_location("requirements", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.requirements


@pytest.fixture
def pyproject(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path / "pyproject.toml"


def test_an_extra_of_the_project_itself_is_followed_and_a_line_comes_once(requirements, pyproject: Path) -> None:
    assert requirements(pyproject, ["build", "serve"]) == [
        "numpy==2.4.6",
        "onnxruntime==1.31.1",
        "rich==15.0.0",
        "torch==2.13.0",
    ]


def test_onnxruntime_gives_way_to_the_build_for_gpus(requirements, pyproject: Path) -> None:
    assert requirements(pyproject, ["onnx", "gpu"]) == ["onnxruntime-gpu[cuda,cudnn]==1.31.1"]


def test_an_extra_that_is_not_there_is_refused(requirements, pyproject: Path) -> None:
    with pytest.raises(KeyError, match="cuda"):
        requirements(pyproject, ["cuda"])


def test_every_line_of_ours_is_pinned_to_one_version(requirements) -> None:
    extras = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    lines = requirements(ROOT / "pyproject.toml", extras)
    assert [line for line in lines if "==" not in line] == []
