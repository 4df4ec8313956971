"""Each room, imported in a fresh interpreter, leaves out what it must never load."""

import subprocess
import sys

import pytest

TORCH = ["torch", "diffusers", "transformers"]
ENGINES = ["onnxruntime", "openvino"]
RARE = ["yaml", "cronsim", "darkroom.scaling.policy", "api.openapi", "api.schemas.scaling"]  # what few requests need
ROOMS = {
    "darkroom.bundles.catalog": [*TORCH, *ENGINES, "numpy", "boto3", "sqlalchemy", "aws_lambda_powertools"],
    "darkroom.jobs": [*TORCH, *ENGINES, "numpy", "boto3", "sqlalchemy"],
    "api.app": [*TORCH, *ENGINES, *RARE, "numpy", "boto3", "sqlalchemy", "aws_lambda_powertools", "mangum", "uvicorn"],
    "functions.api": [*TORCH, *ENGINES, *RARE, "numpy", "boto3", "sqlalchemy", "uvicorn"],
    "runtime.process": [*TORCH, *ENGINES, "boto3", "sqlalchemy", "aws_lambda_powertools"],
    "local.__main__": [*TORCH, *ENGINES, "runtime", "model_build", "boto3", "aws_lambda_powertools", "functions"],
    "model_build.__main__": ["aws_lambda_powertools", "runtime", "api", "functions", "local", "boto3"],
}


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_must_not_load(room: str) -> None:
    code = f"import sys, {room}; print(sorted(set({ROOMS[room]!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"
