"""What an instance type has, against the published lists."""

import pytest

from darkroom.scaling.instances import cores_and_gpus


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        ("ml.g4dn.xlarge", (4, 1)),
        ("ml.g4dn.12xlarge", (48, 4)),
        ("ml.g4dn.16xlarge", (64, 1)),
        ("ml.g5.2xlarge", (8, 1)),
        ("ml.g5.24xlarge", (96, 4)),
        ("ml.g5.48xlarge", (192, 8)),
        ("ml.g6.xlarge", (4, 1)),
        ("ml.g6e.48xlarge", (192, 8)),
        ("ml.p3.2xlarge", (8, 1)),
        ("ml.p3.16xlarge", (64, 8)),
        ("ml.p4d.24xlarge", (96, 8)),
        ("ml.p5.48xlarge", (192, 8)),
        ("ml.c7i.large", (2, 0)),
        ("ml.c7i.2xlarge", (8, 0)),
        ("ml.m5.xlarge", (4, 0)),
    ],
)
def test_cores_and_gpus(instance: str, expected: tuple[int, int]) -> None:
    assert cores_and_gpus(instance) == expected


@pytest.mark.parametrize("other", ["g5.xlarge", "ml.g5", "ml.g5.huge", "", "ml.g5.metal"])
def test_another_form_is_refused(other: str) -> None:
    with pytest.raises(ValueError, match="no instance type"):
        cores_and_gpus(other)
