"""What a SageMaker instance type has: its name says it, in a pattern with few exceptions."""

from __future__ import annotations

import re

_TYPE = re.compile(r"ml\.([a-z0-9-]+)\.(\d*)x?(large|xlarge)")
_ACCELERATED = re.compile(r"(g|p)\d")
_MANY_GPUS = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}  # of the g families; the others have one
_G4DN = {"12xlarge": 4}
_P = {"p3": {"xlarge": 1, "2xlarge": 1, "8xlarge": 4, "16xlarge": 8}}


def cores_and_gpus(instance_type: str) -> tuple[int, int]:
    """(virtual cores, GPUs) of a type such as `ml.g5.xlarge`. Raises: ValueError for a name of another form."""
    match = _TYPE.fullmatch(instance_type)
    if not match:
        raise ValueError(f"{instance_type} is no instance type such as ml.g5.xlarge")
    family, size = match[1], instance_type.rpartition(".")[2]
    cores = 2 if size == "large" else 4 * int(match[2] or 1)
    if not _ACCELERATED.match(family):
        return cores, 0
    if family.startswith("p"):
        return cores, _P.get(family, {}).get(size, 8)
    return cores, (_G4DN if family == "g4dn" else _MANY_GPUS).get(size, 1)
