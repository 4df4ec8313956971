"""The layer holds what was tested, and all that the functions import."""

import ast
import re
import sys

from tests.infrastructure.rules.functions import modules_of
from tests.infrastructure.stack import ROOT, Stack, read

REQUIREMENTS = ROOT / "layers/shared/requirements.txt"
# Import name -> distribution, where they differ.
DISTRIBUTIONS = {"aws_lambda_powertools": "aws-lambda-powertools", "yaml": "pyyaml"}
# Imported where no function on AWS comes by: the directory store's and the databases' libraries.
ELSEWHERE = {"sqlalchemy", "numpy", "httpx"}


def _pinned(path: str) -> dict[str, str]:
    lines = (ROOT / path).read_text().splitlines()
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {name.lower().replace("_", "-"): version for name, _, version in pairs}


def test_versions_are_those_that_were_tested() -> None:
    tested = _pinned("constraints.txt")
    layer = _pinned("layers/shared/requirements.txt")
    assert {name: version for name, version in layer.items() if tested.get(name) != version} == {}


def test_what_the_functions_import_is_in_the_layer() -> None:
    imported = set()
    for name in Stack(read(), {}).functions():
        for source in modules_of(f"functions.{name}"):
            for node in ast.walk(ast.parse(source.read_text())):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                imported |= {one.partition(".")[0] for one in names}
    foreign = imported - sys.stdlib_module_names - {"api", "darkroom", "functions"} - ELSEWHERE
    layer = _pinned("layers/shared/requirements.txt")
    assert {one for one in foreign if DISTRIBUTIONS.get(one, one).replace("_", "-") not in layer} == set()


def test_the_makefile_builds_for_the_templates_python() -> None:
    makefile = (ROOT / "layers/shared/Makefile").read_text()
    (runtime,) = re.findall(r"Runtime: python(\S+)", (ROOT / "template.yaml").read_text())
    assert f"--python-version {runtime}" in makefile
    assert f"LAMBDA_PYTHON ?= python{runtime}" in makefile
