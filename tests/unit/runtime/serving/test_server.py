"""HTTP over a real socket, with a fake engine behind it."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
import structlog
import uvicorn

from runtime.config import RuntimeConfig
from runtime.metrics import Metrics
from runtime.serving.engine_thread import EngineStatus, EngineThread
from runtime.serving.server import build_app
from runtime.serving.turns import Turns
from tests.fakes import pictures

PATIENCE = 10
JSON = {"Content-Type": "application/json"}
EVENTS = {**JSON, "Accept": "text/event-stream"}


class Serving:
    """A replica behind a socket; `client` speaks to it."""

    def __init__(self, replica: EngineThread, config: RuntimeConfig, metrics: Any, **further: EngineThread) -> None:
        self.replica = replica
        app = build_app({"tiny": replica, **further}, config)
        self._server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.address[1]}", timeout=PATIENCE)

    def close(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._socket.close()


@pytest.fixture
def config() -> RuntimeConfig:
    return RuntimeConfig(max_body_bytes=2048)


@pytest.fixture
def serving(service, config, metrics, clock) -> Iterator[Serving]:
    """Ready, its engine running."""
    replica = EngineThread(lambda: service, metrics, on_failure=lambda: None, clock=clock)
    replica.start()
    server = Serving(replica, config, metrics)
    pause = threading.Event()
    for _ in range(1000):
        if replica.status is EngineStatus.READY:
            break
        pause.wait(0.01)
    yield server
    service.admission.give_up(RuntimeError())
    server.close()
    replica.stop(PATIENCE)


@pytest.fixture
def gate(engine) -> Iterator[Any]:
    """Holds the engine before each step until it is opened; `reached` is set once it waits there."""

    class Gate:
        def __init__(self) -> None:
            self.reached, self.open = threading.Event(), threading.Event()

        def __call__(self) -> None:
            self.reached.set()
            assert self.open.wait(PATIENCE)

    gate = Gate()
    yield gate
    gate.open.set()


def events(text: str) -> list[tuple[str, Any]]:
    """Server-sent events as (name, data); comments are left out."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_ping_tells_what_is_served(serving, manifest) -> None:
    answer = serving.client.get("/ping")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "model": "tiny", "version": manifest.version, "target": "plain"}


def test_ping_does_not_wait_for_the_engine(serving, engine, gate) -> None:
    """SageMaker takes a container that does not answer within two seconds as ill."""
    engine.before_predict = gate
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(serving.client.post, "/invocations", json={"prompt": "a cat"})
        assert gate.reached.wait(PATIENCE)
        assert serving.client.get("/ping").json()["status"] == "ready"  # while the engine is held
        assert not answer.done()
        gate.open.set()
        assert answer.result().status_code == 200


def test_ping_is_503_while_loading(service, config, metrics) -> None:
    proceed = threading.Event()

    def load():
        assert proceed.wait(PATIENCE)
        return service

    replica = EngineThread(load, metrics, on_failure=lambda: None)
    replica.start()
    server = Serving(replica, config, metrics)
    answer = server.client.get("/ping")
    refused = server.client.post("/invocations", json={"prompt": "a cat"})
    proceed.set()
    server.close()
    replica.stop(PATIENCE)
    assert (answer.status_code, answer.json()) == (503, {"status": "loading"})
    assert (refused.status_code, refused.json()["code"]) == (503, "runtime_unavailable")
    assert refused.headers["Retry-After"] == "5"


def ready(replica: EngineThread) -> EngineThread:
    replica.start()
    pause = threading.Event()
    while replica.status is not EngineStatus.READY:
        pause.wait(0.01)
    return replica


def test_one_process_serves_several_models(build_service, config, metrics, bundle) -> None:
    turns, renamed = Turns(time.monotonic), bundle.manifest.model_copy(update={"model": "other"})
    first = ready(EngineThread(lambda: build_service(seat=turns.seat("tiny")), metrics, on_failure=lambda: None))
    proceed, theirs = threading.Event(), Metrics()

    def load():
        assert proceed.wait(PATIENCE)
        return build_service(replace(bundle, manifest=renamed), seat=turns.seat("other"), metrics=theirs)

    second = EngineThread(load, theirs, on_failure=lambda: None)
    second.start()
    server = Serving(first, config, metrics, other=second)
    loading = server.client.get("/ping")
    proceed.set()
    pause = threading.Event()
    while second.status is not EngineStatus.READY:
        pause.wait(0.01)
    assert (loading.status_code, loading.json()["status"]) == (503, "loading")
    assert server.client.get("/ping").json()["models"] == "tiny,other"
    asked = ("/invocations", "/models/tiny/invoke", "/models/other/invoke", "/models/other/invoke")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda path: server.client.post(path, json={"prompt": "a cat"}), asked))
    unknown = server.client.post("/models/absent/invoke", json={"prompt": "a cat"})
    described = server.client.get("/models/other").json()
    told = server.client.get("/metrics").text
    server.close()
    for replica in (first, second):
        replica.stop(PATIENCE)
    assert [answer.json()["model"] for answer in answers] == ["tiny", "tiny", "other", "other"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")
    assert (described["model"], described["status"]) == ("other", "ready")
    assert 'darkroom_runtime_images_total{model="tiny"} 2.0' in told
    assert 'darkroom_runtime_images_total{model="other"} 2.0' in told
    assert told.count("# TYPE darkroom_runtime_images_total counter") == 1


def test_a_bare_request_is_answered_with_its_result(serving, store) -> None:
    answer = serving.client.post("/invocations", json={"prompt": "a cat", "seed": 3, "num_images": 2})
    assert answer.status_code == 200
    result = answer.json()
    assert [image["seed"] for image in result["images"]] == [3, 4]
    assert all(image["key"] in store.objects for image in result["images"])


def test_others_are_served_while_a_requests_image_is_fetched(serving, service, gate, monkeypatch) -> None:
    read = service._images.read
    monkeypatch.setattr(service._images, "read", lambda *args, **named: (gate(), read(*args, **named))[1])
    picture = base64.b64encode(pictures.file(pictures.quarters(32, 32))).decode()
    body = {"prompt": "a cat", "image": f"data:image/png;base64,{picture}", "strength": 0.5}
    answers = []
    caller = threading.Thread(target=lambda: answers.append(serving.client.post("/invocations", json=body)))
    caller.start()
    assert gate.reached.wait(PATIENCE)
    assert serving.client.post("/invocations", json={"prompt": "a dog"}).status_code == 200
    gate.open.set()
    caller.join(PATIENCE)
    assert answers[0].status_code == 200


def test_an_envelope_names_the_images(serving) -> None:
    body = {
        "id": "job-1",
        "tenant": "t",
        "request": {"prompt": "a cat", "output_format": "webp"},
        "deadline_seconds": 9,
    }
    (image,) = serving.client.post("/invocations", json=body).json()["images"]
    assert (image["key"], image["content_type"]) == ("images/job-1/0.webp", "image/webp")


def test_the_same_request_twice_is_the_same_bytes(serving) -> None:
    body = {"prompt": "a cat", "seed": 3, "sampler": "noisy"}
    hashes = {serving.client.post("/invocations", json=body).json()["images"][0]["sha256"] for _ in range(3)}
    assert len(hashes) == 1


def test_progress_comes_as_events_and_ends_with_one_result(serving) -> None:
    answer = serving.client.post("/invocations", headers=EVENTS, json={"prompt": "a cat", "num_inference_steps": 5})
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [name for name, _ in events(answer.text)]
    assert names[-1] == "result"
    assert names.count("result") == 1
    progress = [data for name, data in events(answer.text) if name == "progress"]
    assert [look["step"] for look in progress] == sorted({look["step"] for look in progress})
    assert all(look["steps"] == 5 for look in progress)
    assert all(look["preview"].startswith("data:image/jpeg;base64,") for look in progress)


def test_a_stream_shows_each_step_to_a_caller_who_keeps_up(serving, engine) -> None:
    steps = threading.Semaphore(0)
    engine.before_predict = lambda: steps.acquire(timeout=PATIENCE)
    seen = []
    body = {"prompt": "a cat", "num_inference_steps": 4}
    with serving.client.stream("POST", "/invocations", headers=EVENTS, json=body) as answer:
        steps.release()
        for line in answer.iter_lines():
            if line.startswith('data: {"step"'):
                seen.append(json.loads(line.removeprefix("data: "))["step"])
                steps.release()
    assert seen[:3] == [1, 2, 3]


def test_an_error_on_the_way_is_an_event(serving) -> None:
    body = {"id": "bad", "request": {"prompt": "nan"}}
    answer = serving.client.post("/invocations", headers=EVENTS, json=body)
    assert answer.status_code == 200
    (name, data) = events(answer.text)[-1]
    assert (name, data["code"], data["request_id"]) == ("error", "generation_invalid", "bad")


def test_a_bad_request_is_a_problem_before_the_stream(serving) -> None:
    answer = serving.client.post("/invocations", headers=EVENTS, json={"prompt": "a cat", "width": 20})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["field"] == "/width"


def test_a_failed_generation_is_a_problem(serving) -> None:
    answer = serving.client.post("/invocations", json={"id": "bad", "request": {"prompt": "poison"}})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert (answer.json()["code"], answer.json()["request_id"]) == ("generation_failed", "bad")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_client_who_leaves_stops_its_trajectories(serving, engine, gate, store, service, accept) -> None:
    engine.before_predict = gate
    body = json.dumps({"prompt": "a cat", "num_inference_steps": 50}).encode()
    with socket.create_connection(serving.address, PATIENCE) as raw:
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
        raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert gate.reached.wait(PATIENCE)
    assert service.admission.wait_until_idle(PATIENCE)
    steps = len(engine.calls)
    gate.open.set()
    answer = serving.client.post("/invocations", json={"prompt": "dog", "num_inference_steps": 1})
    assert answer.status_code == 200
    assert len(engine.calls) == steps + 2  # the step it was in, and the other's only one
    assert len(store.objects) == 1


def test_a_full_queue_is_503_with_retry_after(build_service, engine, gate, config, metrics, clock) -> None:
    service = build_service(max_queue=1)
    replica = EngineThread(lambda: service, metrics, on_failure=lambda: None, clock=clock)
    replica.start()
    server = Serving(replica, config, metrics)
    pause = threading.Event()
    while replica.status is not EngineStatus.READY:
        pause.wait(0.01)
    engine.before_predict = gate
    first: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: first.append(server.client.post("/invocations", json={"prompt": "a cat"})))
    thread.start()
    assert gate.reached.wait(PATIENCE)
    refused = server.client.post("/invocations", json={"prompt": "a cat"})
    gate.open.set()
    thread.join(PATIENCE)
    server.close()
    replica.stop(PATIENCE)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["Retry-After"]) >= 1
    assert first[0].status_code == 200


BAD_BODIES = [
    (b'{"prompt": "a cat"', 400, "malformed_json"),
    (b'{"prompt": "a cat"} x', 400, "malformed_json"),
    (b'{"prompt": "\xff"}', 400, "malformed_json"),
    (b"", 400, "malformed_json"),
    (b"null", 422, "invalid_parameter"),
    (b"[" * 40 + b"]" * 40, 400, "json_too_deep"),
    (b'{"prompt": "a", "prompt": "b"}', 400, "duplicate_key"),
    (b'{"prompt": 3}', 422, "invalid_type"),
    (b'{"prompt": "a", "seed": true}', 422, "invalid_type"),
    (b'{"prompt": "a", "colour": 1}', 422, "unknown_field"),
    (b'{"prompt": "a", "guidance_scale": NaN}', 422, "not_finite"),
    (b'{"prompt": "a", "guidance_scale": 1e400}', 422, "not_finite"),
    (b'{"prompt": "\\ud800"}', 422, "invalid_unicode"),
    (b'{"prompt": "a\\u0000"}', 422, "invalid_unicode"),
    (b'{"prompt": "a", "num_inference_steps": 0}', 422, "out_of_range"),
    (b'{"prompt": "a", "num_inference_steps": 1000000000}', 422, "out_of_range"),
    (b'{"prompt": "a", "num_images": 1000000}', 422, "out_of_range"),
    (b'{"prompt": "a", "width": 20}', 422, "invalid_dimensions"),
    (b'{"prompt": "a", "width": 4096, "height": 4096}', 422, "invalid_dimensions"),
    (b'{"prompt": "a", "seed": -1}', 422, "out_of_range"),
    (b'{"prompt": "a", "seed": 4294967296}', 422, "out_of_range"),
    (b'{"prompt": "a", "sampler": "unknown"}', 422, "invalid_parameter"),
    (b'{"prompt": "a", "sampler": "../x"}', 422, "invalid_parameter"),
    (b'{"id": "../x", "request": {"prompt": "a"}}', 422, "invalid_parameter"),
    (b'{"id": "x", "request": {"prompt": 1}}', 422, "invalid_type"),
    (b'{"id": "x", "request": {"prompt": "a"}, "deadline_seconds": 0}', 422, "out_of_range"),
    (b'{"prompt": "' + b"a" * 3000 + b'"}', 413, "payload_too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES)
def test_bad_bodies(serving, engine, body: bytes, status: int, code: str) -> None:
    steps = len(engine.calls)
    answer = serving.client.post("/invocations", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(engine.calls) == steps
    assert serving.client.get("/ping").status_code == 200


@pytest.mark.parametrize("prompt", ["\U0001f600 cat", "\u05d7\u05ea\u05d5\u05dc", "e\u0301 cat"])
def test_any_script_is_a_prompt(serving, prompt: str) -> None:
    assert serving.client.post("/invocations", json={"prompt": prompt}).status_code == 200


def test_only_json_is_read(serving) -> None:
    answer = serving.client.post("/invocations", content=b'{"prompt": "a"}', headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_body_of_undeclared_length_is_cut_at_the_cap(serving) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    answer = serving.client.post("/invocations", content=endless(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("config", [RuntimeConfig(body_seconds=0.01)])
def test_a_body_that_does_not_arrive_is_given_up(serving) -> None:
    with socket.create_connection(serving.address, PATIENCE) as raw:
        raw.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert b" 408 " in raw.recv(4096)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nothing", 404, "not_found"), ("GET", "/invocations", 405, "method_not_allowed")],
)
def test_other_addresses_are_problems(serving, method: str, path: str, status: int, code: str) -> None:
    answer = serving.client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_unforeseen_fault_is_a_problem_without_its_text(serving, monkeypatch) -> None:
    def faulty(*_: object) -> None:
        raise ValueError("/secret/path")

    monkeypatch.setattr(serving.replica, "admit", faulty)
    with structlog.testing.capture_logs():
        answer = serving.client.post("/invocations", json={"prompt": "a cat"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text


def test_metrics_name_what_happened(serving) -> None:
    serving.client.post("/invocations", json={"prompt": "a cat", "num_images": 2})
    serving.client.post("/invocations", json={"prompt": 1})
    answer = serving.client.get("/metrics")
    lines = answer.text.splitlines()
    assert answer.headers["content-type"].startswith("text/plain; version=1.0.0")
    assert 'darkroom_runtime_requests_total{outcome="succeeded"} 1.0' in lines
    assert 'darkroom_runtime_requests_total{outcome="invalid_type"} 1.0' in lines
    assert "darkroom_runtime_images_total 2.0" in lines
    assert "darkroom_runtime_ready 1.0" in lines
    assert any(line.startswith("darkroom_runtime_target_info{") and 'target="plain"' in line for line in lines)
    assert any(line.startswith('darkroom_runtime_batch_rows_bucket{le="4.0"}') for line in lines)


def test_draining_is_told_to_both(serving) -> None:
    serving.replica.drain(0)
    assert (serving.client.get("/ping").status_code, serving.client.get("/ping").json()["status"]) == (503, "draining")
    answer = serving.client.post("/invocations", json={"prompt": "a cat"})
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")
