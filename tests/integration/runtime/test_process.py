"""`python -m runtime` as a process: ready, generating, draining, and refusing to start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from darkroom.bundles.catalog import load_manifest, put_manifest, set_current
from darkroom.storage.directory import DirectoryStore

PATIENCE = 60
LONG = {"prompt": "a red cat", "num_inference_steps": 100, "num_images": 8, "guidance_scale": 5.0}
EVENTS = {"Accept": "text/event-stream"}


class Runtime:
    """A runtime process on a socket that it inherits, as the pool starts it."""

    def __init__(self, store: Path, *options: str, **variables: str) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_")}
        self.process = subprocess.Popen(
            [sys.executable, *options, "-m", "runtime", "serve"],
            env={
                **clean,
                "RUNTIME_STORE_URL": f"file://{store}",
                "RUNTIME_MODEL": "tiny",
                "RUNTIME_TARGET": "openvino-fp32",
                "RUNTIME_THREADS": "1",
                "RUNTIME_LOG_LEVEL": "debug",
                "RUNTIME_FD": str(self._listening.fileno()),
                **variables,
            },
            pass_fds=[self._listening.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if json.loads(line)["event"] == "ready":
                return
        raise AssertionError(self.end())

    def signal(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, log lines since the last read, stderr."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err

    def close(self) -> None:
        self.client.close()
        self._listening.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    """A store of the test's own with the tiny bundle."""
    return shutil.copytree(tiny_store, tmp_path / "store")


@pytest.fixture
def start(store: Path) -> Iterator[Callable[..., Runtime]]:
    started: list[Runtime] = []

    def start(*options: str, **variables: str) -> Runtime:
        started.append(Runtime(store, *options, **variables))
        return started[-1]

    yield start
    for runtime in started:
        runtime.close()


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_ready_generate_and_end(start, store: Path) -> None:
    runtime = start()
    runtime.wait_until_ready()
    ready = runtime.client.get("/ping").json()
    assert (ready["status"], ready["model"], ready["target"]) == ("ready", "tiny", "openvino-fp32")
    body = {"id": "one", "request": {"prompt": "a secret red cat", "seed": 3}}
    first = runtime.client.post("/invocations", json=body)
    again = runtime.client.post("/invocations", json=body)
    assert first.status_code == 200
    assert first.json()["images"] == again.json()["images"]
    assert (store / "images/one/0.png").read_bytes().startswith(b"\x89PNG")
    runtime.signal()
    code, lines, err = runtime.end()
    assert (code, err) == (0, "")
    assert "secret" not in json.dumps(lines)
    assert {"step", "answered", "draining"} <= {line["event"] for line in lines}


def test_two_models_take_turns_step_by_step(start, store: Path) -> None:
    files = DirectoryStore(store)
    tiny = load_manifest(files, "tiny")
    other = tiny.model_copy(update={"model": "other"})
    other = other.model_copy(update={"version": other.content_version()})
    shutil.copytree(store / "models/tiny" / tiny.version, store / "models/other" / other.version)
    put_manifest(files, other)
    set_current(files, "other", other.version)
    runtime = start(RUNTIME_MODELS="other")
    runtime.wait_until_ready()
    runtime.wait_until_ready()
    with runtime.client.stream("POST", "/invocations", headers=EVENTS, json={**LONG, "num_images": 4}) as stream:
        lines = events(stream.iter_lines())
        next(lines)
        answer = runtime.client.post("/models/other/invoke", json={"prompt": "cat", "num_inference_steps": 4})
        assert (answer.status_code, answer.json()["model"]) == (200, "other")
        assert next(lines)[0] == "progress", "the long one is still on its way"
        assert list(lines)[-1][1]["model"] == "tiny"
    runtime.signal()
    assert runtime.end()[0] == 0


def test_a_step_is_logged_with_the_steps_its_batch_mixes(start) -> None:
    runtime = start()
    runtime.wait_until_ready()
    with runtime.client.stream("POST", "/invocations", headers=EVENTS, json={**LONG, "num_images": 2}) as stream:
        lines = events(stream.iter_lines())
        next(lines)
        assert runtime.client.post("/invocations", json={"prompt": "cat", "num_inference_steps": 4}).status_code == 200
        assert list(lines)[-1][0] == "result"
    runtime.signal()
    _, log, _ = runtime.end()
    mixed = [line for line in log if line["event"] == "step" and line["mixed"]]
    assert mixed
    assert all(len(set(line["steps"])) == 2 and line["rows"] > 2 for line in mixed)


def test_sigterm_finishes_what_is_in_flight(start) -> None:
    runtime = start()
    runtime.wait_until_ready()
    with runtime.client.stream("POST", "/invocations", headers=EVENTS, json={**LONG, "num_images": 4}) as stream:
        lines = events(stream.iter_lines())
        next(lines)
        runtime.signal()
        status = 200
        while status == 200:  # until the signal has arrived
            ping = httpx.get(f"{runtime.url}/ping", timeout=PATIENCE)
            status = ping.status_code
        assert ping.json()["status"] == "draining"
        refused = httpx.post(f"{runtime.url}/invocations", json={"prompt": "cat"}, timeout=PATIENCE)
        assert refused.json()["code"] == "draining"
        assert list(lines)[-1][0] == "result"
    assert runtime.end()[0] == 0


@pytest.mark.parametrize("signals", [1, 2])
def test_what_cannot_be_finished_is_answered_draining(start, store: Path, signals: int) -> None:
    runtime = start(RUNTIME_DRAIN_SECONDS="0" if signals == 1 else "50", RUNTIME_STRICT="1")
    runtime.wait_until_ready()
    with runtime.client.stream("POST", "/invocations", headers=EVENTS, json=LONG) as stream:
        lines = events(stream.iter_lines())
        next(lines)
        runtime.signal()
        if signals == 2:
            while httpx.get(f"{runtime.url}/ping", timeout=PATIENCE).status_code == 200:
                pass
            runtime.signal()
        name, problem = list(lines)[-1]
        assert (name, problem["code"], problem["retryable"]) == ("error", "draining", True)
    assert runtime.end()[0] == 0
    assert not (store / "images").exists()


def test_sigterm_while_loading_is_a_clean_end(start) -> None:
    runtime = start()
    runtime.client.get("/ping")  # answered as soon as the server is up, long before the bundle is loaded
    runtime.signal()
    code, _, err = runtime.end()
    assert (code, err) == (0, "")


def test_a_flipped_bit_is_refused_before_anything_is_deserialized(start, store: Path) -> None:
    (weights,) = store.glob("models/tiny/*/openvino/unet.bin")
    body = bytearray(weights.read_bytes())
    body[len(body) // 2] ^= 1
    weights.unlink()
    weights.write_bytes(body)
    runtime = start("-X", "importtime")
    code, lines, err = runtime.end()
    imported = [line for line in err.splitlines() if line.startswith("import time:")]
    (sentence,) = set(err.splitlines()) - set(imported)
    assert code == 1
    assert sentence.startswith("runtime: openvino/unet.bin of tiny ")
    assert sentence.endswith("is not what its manifest says; publish the bundle again.")
    assert not any(line.split("|")[-1].strip() == "openvino" for line in imported)
    # An alarm counts these lines.
    assert [(line["event"], line["code"]) for line in lines] == [("start failed", "engine_integrity")]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"RUNTIME_PORTS": "1"},
            "runtime: RUNTIME_PORTS: there is no such setting; correct its name or unset it.",
        ),
        ({"RUNTIME_MODEL": "absent"}, "runtime: There is no model of this name."),
        ({"RUNTIME_TARGET": "tpu"}, "runtime: The bundle has no target tpu; it has "),
        ({"RUNTIME_STORE_URL": "ftp://x"}, "runtime: RUNTIME_STORE_URL: no object store for ftp://"),
        ({"RUNTIME_FD": "999"}, "runtime: The runtime cannot listen on RUNTIME_FD 999: "),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence(start, variables, sentence: str) -> None:
    code, _, err = start(**variables).end()
    assert code == 1
    assert err.startswith(sentence)
    assert err.count("\n") == 1


def test_what_may_have_passed_at_another_try_has_an_exit_code_of_its_own(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]  # nothing listens there once it is closed
    away = {
        "RUNTIME_STORE_URL": "s3://away",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
    }
    code, _, err = start(**away).end()
    assert (code, err) == (os.EX_TEMPFAIL, "runtime: The object store does not answer\n")


def test_a_port_in_use_is_one_sentence(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = start(RUNTIME_FD="", RUNTIME_PORT=port).end()
    assert (code, err) == (1, f"runtime: The runtime cannot listen on 127.0.0.1:{port}: Address already in use.\n")


def test_an_argument_it_does_not_know() -> None:
    ended = subprocess.run([sys.executable, "-m", "runtime", "train"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "usage: python -m runtime [serve]\n")
