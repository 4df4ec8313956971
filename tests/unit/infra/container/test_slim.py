"""What an image's packages lose."""

import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[4] / "infra" / "container" / "slim.py"


@pytest.fixture
def slim():
    spec = importlib.util.spec_from_file_location("slim", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def packages(slim, tmp_path: Path) -> Path:
    for pattern in slim.patterns():
        path = tmp_path / pattern.replace("*", "2641")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
    (tmp_path / "openvino" / "libs" / "libopenvino_intel_cpu_plugin.so").touch()
    return tmp_path


def test_what_is_named_goes_and_nothing_else(slim, packages: Path) -> None:
    assert slim.slim(packages) == 4 * len(slim.patterns())
    left = [path.name for path in packages.rglob("*") if path.is_file()]
    assert left == ["libopenvino_intel_cpu_plugin.so"]


def test_a_pattern_that_finds_nothing_is_told(slim, packages: Path) -> None:
    (packages / "openvino" / "libs" / "cache.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"names openvino/libs/cache.json"):
        slim.slim(packages)
