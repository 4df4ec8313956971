"""`make validate`: the template and what is built of it, checked without an account; each step says what it saw."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SAM, CHECKOV = ROOT / ".venv-sam/bin", ROOT / ".venv-checkov/bin"
TEMPLATE, BUILT = ROOT / "template.yaml", ROOT / ".aws-sam/build"
REGION = "us-east-1"
MOST_BYTES = 40_000_000  # zipped, layer and function together
# Cold import of functions.api over that of standard_library.py: 2.05 measured (228 ms, 112 ms); 350 ms there is 3.1.
MOST_IMPORT = 3.0
IMPORTS = 9


def main() -> None:
    python = lambda_python()
    built = (lambda: sam_build(python), lambda: cold_import(python))
    for step in (cfn_lint, sam_validate, rules, cloudformation, *built, checkov):
        begun = time.monotonic()
        result = step()
        print(f"ok  {result} ({time.monotonic() - begun:.0f} s)", flush=True)


def run(*command: str | Path, **environment: str) -> str:
    """Standard output of a command that must succeed; what it said goes to standard error where it does not."""
    variables = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": REGION, **environment}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nvalidate: {Path(command[0]).name} failed (exit code {done.returncode})")
    return done.stdout


def lambda_python() -> str:
    """The template's Python: LAMBDA_PYTHON as the Makefile sets it."""
    python = os.environ.get("LAMBDA_PYTHON", "")
    wanted = yaml_template()["Globals"]["Function"]["Runtime"].removeprefix("python")
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    if not python or run(python, "-c", script).strip() != wanted:
        sys.exit(
            f"validate: Python {wanted} is needed to build what Lambda runs: put python{wanted} on PATH, or in pyenv."
        )
    return python


def yaml_template() -> dict:
    from tests.infrastructure.stack import read

    return read(TEMPLATE)


def cfn_lint() -> str:
    from tests.infrastructure.rules.regions import REGIONS

    run(SAM / "cfn-lint", "--regions", *REGIONS, "--", TEMPLATE)
    known = run(SAM / "cfn-lint", "--list-rules").count("\n")
    kinds = Counter(resource["Type"] for resource in yaml_template()["Resources"].values())
    return f"cfn-lint: {sum(kinds.values())} resources of {len(kinds)} types by {known} rules in {len(REGIONS)} regions"


def sam_validate() -> str:
    run(SAM / "sam", "validate", "--lint", "--template", TEMPLATE, "--region", REGION)
    return "sam validate --lint: a valid SAM template"


def rules() -> str:
    from tests.infrastructure import mutation, rulebook
    from tests.infrastructure.rules.regions import REGIONS
    from tests.infrastructure.stack import CONFIGURATIONS

    template = yaml_template()
    broken = [f"{name}: {rule}" for name in CONFIGURATIONS for rule in rulebook.violations(template, name)]
    if broken:
        sys.exit("\n".join(broken))
    count = sum(1 for _ in mutation.properties(template))
    configurations = f"{len(CONFIGURATIONS)} configurations and {len(REGIONS)} regions"
    return f"our own rules: {len(rulebook.load())} in {configurations} over {count} properties, none broken"


def cloudformation() -> str:
    """What SAM makes of the template, in moto's CloudFormation; what that skips, through the services' own APIs."""
    tests = "tests/infrastructure/test_translated.py"
    output = run(sys.executable, "-m", "pytest", "-m", "template or not template", tests, PYTHONPATH=".:layers/shared")
    from tests.infrastructure.stack import CONFIGURATIONS
    from tests.infrastructure.test_translated import SKIPPED

    (passed,) = re.findall(r"^(\d+) passed", output, re.MULTILINE)
    stacks = f"{len(CONFIGURATIONS)} configurations made in moto"
    return (
        f"CloudFormation: {stacks}, {len(SKIPPED)} types that moto skips replayed through their APIs ({passed} tests)"
    )


def sam_build(python: str) -> str:
    run(SAM / "sam", "build", "--build-in-source", "--template", TEMPLATE, LAMBDA_PYTHON=python)
    layer, function = zipped(BUILT / "SharedLayer"), zipped(BUILT / "ApiFunction")
    if layer + function > MOST_BYTES:
        sys.exit(
            f"validate: layer and function: {(layer + function) / 1e6:.1f} MB zipped, {MOST_BYTES / 1e6:.0f} at most"
        )
    names = sorted(one.name for one in BUILT.iterdir() if one.is_dir())
    sizes = f"layer {layer / 1e6:.1f} MB and function {function / 1e6:.2f} MB zipped"
    return f"sam build: {', '.join(names)} for arm64; {sizes} (at most {MOST_BYTES / 1e6:.0f} together)"


def zipped(folder: Path) -> int:
    """Bytes of the archive that would be uploaded."""
    with tempfile.TemporaryDirectory() as aside:
        return Path(shutil.make_archive(f"{aside}/upload", "zip", folder)).stat().st_size


def cold_import(python: str) -> str:
    """Layer and function built for this machine, imported in fresh interpreters of the template's Python."""
    with tempfile.TemporaryDirectory() as folder:
        layer, function = Path(folder, "layer"), Path(folder, "function")
        make = shutil.which("make") or "make"
        build = {"LAMBDA_PYTHON": python, "LAMBDA_MACHINE": platform.machine()}
        run(make, "-s", "-C", "layers/shared", "build-SharedLayer", **build, ARTIFACTS_DIR=str(layer))
        run(make, "-s", "-C", "functions", "build-ApiFunction", **build, ARTIFACTS_DIR=str(function))
        command = [python, "-I", ROOT / "infra/aws/cold_import.py", layer]
        api = [*command, function, "functions.api"]
        library = [*command, ROOT / "infra/aws", "standard_library"]
        for one in (api, library):
            run(*one)  # reads the files from disk once
        spent = [[json.loads(run(*one)) for one in (api, library)] for _ in range(IMPORTS)]
        wall, cpu = (statistics.median(ours[clock] for ours, _ in spent) for clock in ("wall", "cpu"))
        # A slow or busy machine stretches both alike: milliseconds would fail where nothing has become slower.
        ratio = statistics.median(ours["cpu"] / reference["cpu"] for ours, reference in spent)
        sources = sorted(Path(function, "functions").glob("*.py"))
        modules = [f"functions.{one.stem}" for one in sources if "\ndef lambda_handler(" in one.read_text("utf-8")]
        others = [one for one in modules if one != "functions.api"]
        every = json.loads(run(*api, *others, DARKROOM_JOBS_URL="dynamodb://jobs"))  # as on AWS: no SQL there
    cost = f"{wall:.0f} ms, {cpu:.0f} ms of CPU, {ratio:.2f} times the standard library's"
    if ratio > MOST_IMPORT:
        sys.exit(f"validate: importing functions.api takes {cost}: {MOST_IMPORT} times at most")
    if every["handlers"] != len(modules) or every["answer"] != 200:
        sys.exit(f"validate: a handler cannot be imported, or GET /openapi.json answers {every['answer']}")
    cost = f"{cost}, medians of {IMPORTS} (at most {MOST_IMPORT} times)"
    return f"cold import of functions.api: {cost}; {len(modules)} handlers import, GET /openapi.json answers 200"


def checkov() -> str:
    """Findings are exactly those of the baseline, each with its reason."""
    quiet = ("--framework", "cloudformation", "--output", "json", "--quiet", "--compact", "--soft-fail")
    report = json.loads(run(CHECKOV / "checkov", "--file", TEMPLATE, *quiet))
    findings = {(one["check_id"], one["resource"].rpartition(".")[2]) for one in report["results"]["failed_checks"]}
    baseline = yaml.safe_load((ROOT / "infra/aws/checkov.yaml").read_text(encoding="utf-8"))
    known = {(check, name) for check, entry in baseline.items() for name in entry["resources"] if entry["why"]}
    for check, name in sorted(findings - known):
        print(f"validate: checkov: {name}: {check}, which infra/aws/checkov.yaml does not explain", file=sys.stderr)
    for check, name in sorted(known - findings):
        print(
            f"validate: infra/aws/checkov.yaml explains {check} of {name}, which is not found any more", file=sys.stderr
        )
    if findings != known or report["summary"]["parsing_errors"]:
        sys.exit(1)
    return (
        f"checkov: {report['summary']['passed']} checks passed, {len(findings)} findings, all explained in the baseline"
    )


if __name__ == "__main__":
    main()
