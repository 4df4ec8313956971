"""`python -m local` as a process: how it says that it is ready, how it stops, and how it says that it cannot start."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from darkroom.bundles import catalog
from darkroom.storage.directory import DirectoryStore
from tests.fakes.deployment import RUNTIME, running

ROOT = Path(__file__).parent.parent.parent.parent
PATIENCE_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(port: int, data: Path, store: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "local"],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")},
            "PORT": str(port),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'shared'}",
            "DARKROOM_DATA_DIR": str(data),
            "DARKROOM_BUNDLE": str(store),
            "DARKROOM_DEFAULT_MODEL": "tiny",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(process: subprocess.Popen[str]) -> str:
    """The one sentence of a start that failed."""
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1, err
    assert out == ""
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("darkroom: ") and "starting" not in line]
    return sentence


def children(process: subprocess.Popen[str]) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_dead(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def ready(tmp_path: Path, tiny_store: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that is ready, and what it printed to say so."""
    process = start(free_port(), tmp_path / "data", tiny_store)
    assert process.stdout
    assert process.stderr
    line = process.stdout.readline()
    if not line:
        pytest.fail(process.stderr.read())
    yield process, line + process.stdout.readline()
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)


def test_the_ready_line_holds_a_curl_line_that_works(ready: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    process, said = ready
    assert "ready" in said.splitlines()[0]
    curl = shlex.split(said.splitlines()[1].strip())
    url = next(word for word in curl if word.startswith("http"))
    answer = httpx.post(url, content=curl[-1], headers={"Content-Type": "application/json"}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert httpx.get(answer.json()["image"]).content.startswith(b"\x89PNG")
    data = tmp_path / "data"
    files = {data.stat().st_mode & 0o777: data} | {path.stat().st_mode & 0o777: path for path in data.rglob("*")}
    assert set(files) == {0o600, 0o700}, files  # what callers asked for and got is nobody else's
    runtimes = children(process)
    assert len(runtimes) == 1
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert not any(alive(pid) for pid in runtimes)


def test_ctrl_c_twice(ready: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = ready
    runtimes = children(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert not any(alive(pid) for pid in runtimes)


def test_row_72_sigterm_while_loading(tmp_path: Path, tiny_store: Path) -> None:
    process = start(free_port(), tmp_path / "data", tiny_store)
    assert process.stderr
    process.stderr.readline()  # "starting"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (runtimes := children(process)):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert not any(alive(pid) for pid in runtimes)


def test_no_runtime_outlives_its_parent(ready: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = ready
    runtimes = children(process)
    process.kill()
    until_dead(runtimes)


def test_what_was_made_is_there_after_a_restart(tmp_path: Path, tiny_store: Path) -> None:
    options = {"program": RUNTIME, "bundle_store": tiny_store, "default_model": "tiny"}
    with running(tmp_path, **options) as first:  # type: ignore[arg-type]
        job = first.client.post("/v1/models/m:predict", json={"prompt": "a dog", "num_inference_steps": 2}).json()["id"]
        before = first.client.get(first.job(job)["image"]).content
    with running(tmp_path, **options) as second:  # type: ignore[arg-type]
        assert second.client.get(second.job(job)["image"]).content == before


def test_every_job_ends_when_the_real_runtime_is_killed_under_load(tmp_path: Path, tiny_store: Path) -> None:
    with running(tmp_path, program=RUNTIME, bundle_store=tiny_store, default_model="tiny") as deployment:
        asked = [{"prompt": "a dog", "seed": seed, "num_inference_steps": 60} for seed in range(8)]
        path, later = "/v1/models/tiny:predict", {"Prefer": "respond-async"}
        jobs = [deployment.client.post(path, json=body, headers=later).json()["id"] for body in asked]
        deployment.until(lambda: any(deployment.job(job)["progress"]["step"] for job in jobs))
        killed = deployment.deployment.pool.replicas[0].pid
        assert killed
        os.kill(killed, signal.SIGKILL)
        told = [deployment.finished(job) for job in jobs]
        assert [(job["status"], job["seed"]) for job in told] == [("succeeded", seed) for seed in range(8)]
        assert all(len(job["images"]) == 1 for job in told)
        assert deployment.deployment.pool.replicas[0].restarts == 1
        stored = list(deployment.deployment.store.keys("images/"))
        assert sorted(stored) == sorted(f"images/{job}/0.png" for job in jobs)


def test_a_port_in_use(tmp_path: Path, tiny_store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} is in use" in refusal(start(port, tmp_path / "data", tiny_store))


@pytest.mark.parametrize("port", ["", "http", "70000", "-1"])
def test_a_port_that_is_none(tmp_path: Path, tiny_store: Path, port: str) -> None:
    assert "PORT must be a number" in refusal(start(0, tmp_path / "data", tiny_store, PORT=port))


def test_a_data_directory_that_cannot_be_written(tiny_store: Path) -> None:
    assert "DARKROOM_DATA_DIR" in refusal(start(free_port(), Path("/proc/darkroom"), tiny_store))


def test_a_setting_that_is_misspelt(tmp_path: Path, tiny_store: Path) -> None:
    assert "DARKROOM_DATADIR" in refusal(start(free_port(), tmp_path, tiny_store, DARKROOM_DATADIR="x"))


def test_no_bundle_at_all(tmp_path: Path, tiny_store: Path) -> None:
    said = refusal(start(free_port(), tmp_path / "data", tiny_store, DARKROOM_DEFAULT_MODEL="absent"))
    assert "no bundle of absent" in said
    assert "there is no directory" in refusal(start(free_port(), tmp_path / "data", tmp_path / "nowhere"))


@pytest.mark.parametrize("pattern", ["manifest.json", "*unet*.bin", "current.json"])
def test_a_broken_bundle(tmp_path: Path, tiny_store: Path, pattern: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_store, broken)
    victim = max(broken.rglob(pattern), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-7])
    data = tmp_path / "data"
    assert "bundle of tiny" in refusal(start(free_port(), data, broken))


def test_a_bundle_that_breaks_in_the_store(tmp_path: Path, tiny_store: Path) -> None:
    data = tmp_path / "data"
    with running(tmp_path, program=RUNTIME, bundle_store=tiny_store, default_model="tiny"):
        manifest = catalog.load_manifest(DirectoryStore(data / "store"), "tiny")
    served = Path(manifest.targets[0].components["unet"]).with_suffix(".bin")
    victim = data / "store" / catalog.bundle_key("tiny", manifest.version, str(served))
    victim.write_bytes(victim.read_bytes()[:-7] + b"flipped")
    port = free_port()
    said = refusal(start(port, data, tiny_store))
    assert said.endswith(".")
    assert "integrity" in said or "manifest" in said
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/ping")
