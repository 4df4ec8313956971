"""The images, as far as they go without a container engine: what they copy, install and start, assembled and run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[4]
CONTAINER = ROOT / "infra" / "container"
IMAGES = ("runtime-cpu", "runtime-gpu", "model-build")
PATIENCE = 60
_SLIMMED = ("openvino",)  # packages that slim.py takes files from: copied, where others are linked


@dataclass
class Stage:
    """One stage: what it is made from, and its instructions in order, continuation lines joined."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, name: str) -> str | None:
        return next((value for told, value in reversed(self.instructions) if told == name), None)

    def copies(self) -> list[list[str]]:
        return [shlex.split(value) for told, value in self.instructions if told == "COPY"]


def read_stages(text: str) -> dict[str, Stage]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    stages: dict[str, Stage] = {}
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        name, _, value = line.strip().partition(" ")
        if name == "FROM":
            base, _, stage = value.partition(" AS ")
            stages[stage] = Stage(base)
        elif name:
            list(stages.values())[-1].instructions.append((name, value))
    return stages


STAGES = read_stages((CONTAINER / "Dockerfile").read_text())


def inherited(name: str) -> Stage:
    """A stage with all it has from those it is made from."""
    whole = Stage(STAGES[name].base, list(STAGES[name].instructions))
    while whole.base in STAGES:
        below = STAGES[whole.base]
        whole.instructions = below.instructions + whole.instructions
        whole.base = below.base
    return whole


def environment(stage: Stage) -> dict[str, str]:
    """The ENV of a stage; variables that name others keep the name."""
    told = [pair for name, value in stage.instructions if name == "ENV" for pair in shlex.split(value)]
    return dict(pair.split("=", 1) for pair in told)


def packages_of(stage: str) -> list[str]:
    """The requirement lines that a `packages-*` stage installs, printed by the command that the Dockerfile runs."""
    runs = [value for name, value in STAGES[stage].instructions if name == "RUN"]
    told = next(
        re.fullmatch(r"python (requirements\.py .*) > chosen\.txt", value) for value in runs if "chosen" in value
    )
    assert told is not None
    command = [sys.executable, str(CONTAINER / "requirements.py"), *told[1].split()[1:]]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def distributions(lines: list[str]) -> dict[str, importlib.metadata.Distribution]:
    """Everything that installing these lines brings, out of what is installed here, by normalized name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    asked = [(Requirement(line), "") for line in lines]
    seen = set()
    while asked:
        requirement, extra = asked.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                found[name] = importlib.metadata.distribution(name)
                asked += [(Requirement(line), wanted) for line in found[name].requires or ()]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_made_from_an_earlier_one_or_from_python_at_one_version(stage: str) -> None:
    earlier = list(STAGES)[: list(STAGES).index(stage)]
    assert STAGES[stage].base in earlier or re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", STAGES[stage].base)
    assert len({inherited(name).base for name in STAGES}) == 1  # the environment is made by the Python that runs it


def test_the_context_holds_what_is_copied_and_nothing_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    sent = exclude_paths(str(ROOT), patterns, dockerfile="infra/container/Dockerfile")
    copied = {
        source
        for stage in STAGES.values()
        for copy in stage.copies()
        if not copy[0].startswith("--")
        for source in copy[:-1]
    }
    assert {source for source in copied if source not in sent} == set()
    files = {path for path in sent if (ROOT / path).is_file()}
    unused = {path for path in files if not any(path == source or path.startswith(f"{source}/") for source in copied)}
    assert unused == {".dockerignore", "infra/container/Dockerfile"}  # the builder is always sent these
    assert not any(name in path for path in files for name in ("__pycache__", "crayon/bundle"))


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_user_of_no_rights_by_commands_in_exec_form(image: str) -> None:
    stage = inherited(image)
    assert stage.last("USER") == "10001:10001"
    entry = json.loads(stage.last("ENTRYPOINT") or "") + json.loads(stage.last("CMD") or "")
    assert entry == ["python", "-m", *(["model_build", "--help"] if image == "model-build" else ["runtime", "serve"])]
    assert not any("COPY" in name and "--chown" in value for name, value in stage.instructions)  # code is root's


@pytest.mark.parametrize("image", ["runtime-cpu", "runtime-gpu"])
def test_a_runtime_image_keeps_sagemakers_contract(image: str) -> None:
    stage = inherited(image)
    assert (environment(stage)["RUNTIME_HOST"], environment(stage)["RUNTIME_PORT"]) == ("0.0.0.0", "8080")  # noqa: S104
    assert (stage.last("EXPOSE"), stage.last("STOPSIGNAL")) == ("8080", "SIGTERM")
    assert json.loads(stage.last("CMD") or "") == ["serve"]


def test_no_torch_in_the_runtime_images() -> None:
    assert "torch" in distributions(
        [line for line in packages_of("packages-build") if "-gpu" not in line and "tensorrt" not in line]
    )
    assert not {"torch", "diffusers", "transformers", "nncf"} & set(distributions(packages_of("packages-cpu")))
    gpu = packages_of("packages-gpu")
    pins = (CONTAINER / "constraints-gpu.txt").read_text()
    assert [line for line in gpu if line.startswith("onnxruntime")] == ["onnxruntime-gpu[cuda,cudnn]==1.31.1"]
    assert "torch" not in pins
    assert set(gpu) - set(packages_of("packages-cpu")) == {
        line for line in gpu if line.startswith(("onnx", "tensorrt"))
    }


@pytest.mark.parametrize("stage", ["packages-cpu", "packages-gpu"])
def test_what_a_runtime_never_loads_is_deleted_in_the_layer_that_brought_it(stage: str) -> None:
    installs = [value for name, value in STAGES[stage].instructions if name == "RUN" and "pip install" in value]
    assert [value.endswith("&& python slim.py") for value in installs] == [True]


def test_the_pins_for_gpus_are_those_of_the_extra() -> None:
    pins = dict(
        line.split("==") for line in (CONTAINER / "constraints-gpu.txt").read_text().splitlines() if "==" in line
    )
    for line in packages_of("packages-gpu"):
        requirement = Requirement(line)
        if requirement.name in pins:
            assert requirement.specifier.contains(pins[requirement.name])
    assert {"onnxruntime-gpu", "tensorrt-cu13", "nvidia-cudnn-cu13", "nvidia-cublas"} <= set(pins)


class Container:
    """runtime-cpu's tree below a folder, with its packages alone, run as its ENTRYPOINT, CMD and HEALTHCHECK say."""

    def __init__(self, root: Path, store: Path, target: str) -> None:
        self._stage = inherited("runtime-cpu")
        self._root = root
        for *sources, place in STAGES["code"].copies():
            for source in sources:
                _copy(ROOT / source, root / "opt" / "darkroom" / place, into=place.endswith("/"))
        packages = root / "packages"
        packages.mkdir()
        for distribution in distributions(packages_of("packages-cpu")).values():
            for top in {
                file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")
            }:
                installed = Path(distribution.locate_file(top))
                if top in _SLIMMED and not (packages / top).is_dir():
                    shutil.copytree(installed, packages / top)
                elif top not in _SLIMMED and not (packages / top).is_symlink():
                    (packages / top).symlink_to(installed)
        subprocess.run([sys.executable, str(CONTAINER / "slim.py"), str(packages)], check=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = str(self._listening.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        told = environment(self._stage)
        places = [f"{root}{place}" for place in told["PYTHONPATH"].split(":")]
        self._environment = {
            **{name: value for name, value in told.items() if name not in ("PATH", "HOME")},
            "PYTHONPATH": os.pathsep.join([*places, str(packages)]),
            "RUNTIME_PORT": port,
            "RUNTIME_FD": str(self._listening.fileno()),
            "RUNTIME_STORE_URL": f"file://{store}",
            "RUNTIME_IMAGES_URL": f"file://{root}/images",
            "RUNTIME_MODEL": "tiny",
            "RUNTIME_TARGET": target,
            "RUNTIME_THREADS": "1",
        }
        self._workdir = root / "var" / "lib" / "darkroom"
        self._workdir.mkdir(parents=True)

    def start(self) -> subprocess.Popen[str]:
        command = json.loads(self._stage.last("ENTRYPOINT") or "") + json.loads(self._stage.last("CMD") or "")
        process = subprocess.Popen(
            self._here(command),
            cwd=self._workdir,
            env=self._environment,
            pass_fds=[self._listening.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listening.close()
        return process

    def health(self) -> tuple[int, str]:
        told = self._stage.last("HEALTHCHECK") or ""
        command = json.loads(told[told.index("CMD") + len("CMD") :])
        ran = subprocess.run(
            self._here(command), env=self._environment, capture_output=True, text=True, timeout=PATIENCE
        )
        return ran.returncode, ran.stderr

    def _here(self, command: list[str]) -> list[str]:
        """-S: this environment's own packages are not to be seen."""
        assert command[0] == "python"
        return [
            sys.executable,
            "-S",
            *[f"{self._root}{part}" if part.startswith("/") else part for part in command[1:]],
        ]


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target = target / source.name if into else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


@pytest.mark.parametrize("target", ["onnx-cpu", "openvino-fp32"])
def test_the_image_serves_with_its_own_code_and_packages_alone(tmp_path: Path, tiny_store: Path, target: str) -> None:
    container = Container(tmp_path, tiny_store, target)
    process = container.start()
    try:
        assert process.stdout is not None
        events = []
        for line in process.stdout:
            events.append(json.loads(line)["event"])
            if events[-1] == "ready":
                break
        assert events[-1:] == ["ready"], process.communicate()
        assert container.health() == (0, "")
        answer = httpx.post(f"{container.url}/invocations", json={"prompt": "a red cat"}, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        code, told = container.health()
        assert code == 1
        assert told.startswith("the runtime does not answer: ")
    finally:
        process.kill()
        process.communicate()
