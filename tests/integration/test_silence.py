"""No process of ours speaks to anybody unasked: each works on a recorded network, and nothing was sent to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.network import Packet, Record, recorded
from tests.tiny_checkpoint import write_tiny_checkpoint

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 600
NAME_ASKED_FOR = "import socket\ntry: socket.getaddrinfo('www.example.com', 443)\nexcept OSError: pass"
CONNECTED = "import socket\nfor to in {to}: socket.socket(len(to) > 12 and socket.AF_INET6 or 2).connect_ex((to, 443))"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root may have a network of its own; CI is"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of somebody who once agreed to Intel's question, whatever for."""
    home = tmp_path / "home"
    consent = home / "intel" / "openvino_telemetry"
    consent.parent.mkdir(parents=True)
    consent.write_text("1")
    return home


@pytest.fixture
def record() -> Iterator[Record]:
    with recorded() as record:
        yield record


def started(home: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    """As an operator starts it: with no switch of any library set."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**kept, "HOME": str(home), "PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'shared'}", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_line_with(word: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if not any(word in line for line in process.stdout):
        raise AssertionError(process.communicate(timeout=PATIENCE))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def left_at(home: Path) -> list[str]:
    """The identities under which a library would report, and what it would report."""
    files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    return sorted(files - {"intel/openvino_telemetry"})


def test_the_record_misses_nothing(home: Path, record: Record) -> None:
    addresses = ("203.0.113.9", "2001:db8:9::9")
    for code in (NAME_ASKED_FOR, CONNECTED.format(to=addresses)):
        with started(home, "-c", code) as process:
            process.communicate(timeout=PATIENCE)
    packets = record.packets()
    assert {packet.name for packet in packets if packet.port == 53} == {"www.example.com"}
    assert {Packet("tcp", address, 443) for address in addresses} == {each for each in packets if each.port == 443}
    assert record.packets() == []


@pytest.mark.parametrize("target", ["openvino-fp32", "onnx-cpu"])
def test_a_replica(target: str, tiny_store: Path, tmp_path: Path, home: Path, record: Record) -> None:
    port = free_port()
    variables = {
        "RUNTIME_STORE_URL": f"file://{tiny_store}",
        "RUNTIME_IMAGES_URL": f"file://{tmp_path / 'images'}",
        "RUNTIME_CACHE_DIR": str(tmp_path / "cache"),
        "RUNTIME_MODEL": "tiny",
        "RUNTIME_TARGET": target,
        "RUNTIME_PORT": str(port),
    }
    with started(home, "-m", "runtime", **variables) as process:
        until_line_with("ready", process)
        answer = httpx.post(f"http://127.0.0.1:{port}/invocations", json={"prompt": "a cube"}, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert (process.returncode, record.packets(), left_at(home)) == (0, [], [])


def test_crayon_as_it_is_served(tmp_path: Path, home: Path, record: Record) -> None:
    port = free_port()
    variables = {
        "RUNTIME_STORE_URL": f"file://{ROOT / 'crayon' / 'bundle'}",
        "RUNTIME_IMAGES_URL": f"file://{tmp_path / 'images'}",
        "RUNTIME_CACHE_DIR": str(tmp_path / "cache"),
        "RUNTIME_PORT": str(port),
    }
    with started(home, "-m", "runtime", **variables) as process:
        until_line_with("ready", process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert (process.returncode, record.packets(), left_at(home)) == (0, [], [])


@pytest.mark.costly("model_build/**/*", "layers/shared/darkroom/gpu/*.json")
def test_a_build(tmp_path: Path, home: Path, record: Record) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cube\na ball\n")
    folders = ["--work", str(tmp_path / "work"), "--store", f"file://{tmp_path / 'store'}"]
    plan = ["--name", "tiny", "--target", "openvino-int8", "--target", "onnx-cpu", "--prompts", str(prompts)]
    command = ["-m", "model_build", "build", str(checkpoint), *plan, *folders, "--verify-steps", "1", "--repeats", "0"]
    with started(home, *command) as process:
        said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, record.packets(), left_at(home)) == (0, [], []), said


def test_the_deployment_on_one_machine(tiny_store: Path, tmp_path: Path, home: Path, record: Record) -> None:
    port = free_port()
    variables = {
        "PORT": str(port),
        "DARKROOM_DATA_DIR": str(tmp_path / "data"),
        "DARKROOM_BUNDLE": str(tiny_store),
        "DARKROOM_DEFAULT_MODEL": "tiny",
    }
    with started(home, "-m", "local", **variables) as process:
        until_line_with("ready", process)
        url = f"http://127.0.0.1:{port}/v1/models/tiny:predict"
        answer = httpx.post(url, json={"prompt": "a cube"}, headers={"Prefer": "wait=60"}, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert (process.returncode, record.packets(), left_at(home)) == (0, [], [])
