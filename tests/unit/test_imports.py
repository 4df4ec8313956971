"""Each room, imported in a fresh interpreter, leaves out what it must never load."""

import subprocess
import sys

import pytest

TORCH = ["torch", "diffusers", "transformers"]
ENGINES = ["onnxruntime", "openvino"]
ROOMS = {
    "darkroom.catalog": [*TORCH, *ENGINES, "numpy", "boto3", "sqlalchemy", "aws_lambda_powertools"],
    "darkroom.jobs": [*TORCH, *ENGINES, "numpy", "boto3", "sqlalchemy"],
    "functions.api": [
        *[*TORCH, *ENGINES, "numpy", "boto3", "sqlalchemy"],
        *["yaml", "cronsim", "darkroom.scaling.policy", "functions.documentation"],  # what few requests need
    ],
    "runtime.process": [*TORCH, *ENGINES, "boto3", "sqlalchemy", "aws_lambda_powertools"],
    "local.__main__": [*TORCH, *ENGINES, "runtime", "model_build", "boto3"],
    "model_build.__main__": ["aws_lambda_powertools", "runtime", "functions", "local", "boto3"],
}


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_must_not_load(room: str) -> None:
    code = f"import sys, {room}; print(sorted(set({ROOMS[room]!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"
