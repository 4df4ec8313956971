"""What starting the runtime loads, and what it does not."""

from __future__ import annotations

import subprocess
import sys

ABSENT = [
    "torch",
    "diffusers",
    "transformers",
    "boto3",
    "sqlalchemy",
    "aws_lambda_powertools",
    "openvino",
    "onnxruntime",
]


def test_no_engine_and_nothing_of_other_rooms_is_loaded_at_import() -> None:
    code = f"import sys, runtime.process; print(sorted(set({ABSENT!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "[]"


def test_signals_are_heeded_before_the_libraries_are_imported() -> None:
    code = "import sys, runtime.__main__; print('numpy' in sys.modules, 'uvicorn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.split() == ["False", "False"]
