"""The API's own time: what its handler takes for an event, where nothing is generated."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from types import SimpleNamespace
from typing import Any

from benchmarks.measure import RESULTS, Row, free_port, judged, keep
from benchmarks.pictures.chart import curves as draw
from darkroom.bundles import catalog
from darkroom.contracts import GeneratedImage, GenerationResult, StoredImage
from darkroom.storage import open_store

COMMAND = "make bench PART=api"
EVENTS, WARM = 2000, 100
_P50, _P99 = 10.0, 40.0  # milliseconds, each the goal
_BUNDLE = Path(__file__).parent.parent / "crayon" / "bundle"
_MODEL = "crayon"
_ENDPOINT = "darkroom-crayon"


def run() -> None:
    """Measure one machine and AWS, print and keep everything of this part."""
    with _one_machine() as environment:
        machine, _ = _Subject(environment).measure("one machine")
    with _aws() as environment:
        aws, calls = _Subject(environment).measure("AWS")
    rows, curves = [], {}
    for where, timings in (("one machine, SQLite", machine), ("AWS, without the services' own time", aws)):
        own = [timing.own for timing in timings]
        for name, percent, goal in (("p50", 50, _P50), ("p99", 99, _P99)):
            measured = _percentile(own, percent)
            metric = f"handler {name} over {EVENTS} events, {where}"
            rows.append(judged("api", COMMAND, metric, measured, "ms", at_most=goal, digits=2))
        predicts = _percentile([timing.own for timing in timings if timing.kind == "predict"], 50)
        rows.append(Row("api", f"handler p50 of the predicts among them, {where}", round(predicts, 2), "ms", COMMAND))
        cpu = _percentile([timing.cpu for timing in timings], 99)
        rows.append(Row("api", f"handler p99 on the processor, {where}", round(cpu, 2), "CPU-ms", COMMAND))
        curves[where] = sorted(own)
    rows.append(Row("api", "calls of AWS services for one predict", calls, "calls", COMMAND))
    keep("api", rows, {"one_machine": _raw(machine), "aws": _raw(aws)})
    draw("api", "The API's own time for an event", curves, (_P50, _P99))
    print(f"  raw runs in {RESULTS / 'api.json'}, the picture beside them", flush=True)


def _raw(timings: list[_EventTiming]) -> dict[str, dict[str, str]]:
    """For each kind of event, milliseconds in the order they were taken, on one line each."""
    raw = {}
    for kind in dict.fromkeys(timing.kind for timing in timings):
        those = [timing for timing in timings if timing.kind == kind]
        sides = {"own": "own", "processor": "cpu", "waited_for_services": "waited"}
        raw[kind] = {side: " ".join(f"{getattr(timing, of):.2f}" for timing in those) for side, of in sides.items()}
    return raw


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True)
class _EventTiming:
    """One event, milliseconds: the handler's own, of that on a processor, and what it waited for AWS's services."""

    kind: str
    own: float
    cpu: float
    waited: float


class _Subject:
    """The handler with what `environment` describes; five events make a round, as callers do them."""

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        from functions import api

        api.from_environment.cache_clear()
        self._handler = api.lambda_handler
        self._jobs = api.from_environment().jobs
        self._services = _Services()
        self._metrics = io.StringIO()

    def measure(self, where: str) -> tuple[list[_EventTiming], int]:
        """Each event in order, and how many calls of services a predict makes."""
        timings, calls = list[_EventTiming](), 0
        with self._services.watched():
            for number in range((WARM + EVENTS) // 5):
                measured, calls = self._round(number)
                timings += measured
                if number % 80 == 0:
                    print(f"  {where}: {len(timings)} of {WARM + EVENTS} events", flush=True)
        return timings[WARM:], calls

    def _round(self, number: int) -> tuple[list[_EventTiming], int]:
        """Predict, look, look when it is done, ask for the model, send something broken."""
        body = {"prompt": "a large red heart on a blue background", "seed": number, "num_inference_steps": 20}
        headers = {"prefer": "respond-async"}
        before = self._services.calls
        predicted, first = self._timed("predict", "POST", f"/v1/models/{_MODEL}:predict", body, 202, headers)
        calls = self._services.calls - before
        job = f"/v1/jobs/{predicted['id']}"
        _, second = self._timed("job, queued", "GET", job, None, 200)
        self._jobs.settle(predicted["id"], _result(predicted["id"]))
        done, third = self._timed("job, succeeded", "GET", job, None, 200)
        assert done["status"] == "succeeded"
        _, fourth = self._timed("model", "GET", f"/v1/models/{_MODEL}", None, 200)
        _, fifth = self._timed("refused", "POST", f"/v1/models/{_MODEL}:predict", {"prompt": 1}, 422)
        return [first, second, third, fourth, fifth], calls

    def _timed(
        self, kind: str, method: str, path: str, body: Any, expected: int, headers: dict[str, str] | None = None
    ) -> tuple[Any, _EventTiming]:
        http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "bench"}
        event = {
            "version": "2.0",
            "routeKey": "ANY /v1/{proxy+}",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"content-type": "application/json", **(headers or {})},
            "body": None if body is None else json.dumps(body),
            "isBase64Encoded": False,
            "requestContext": {"http": http, "requestId": "bench", "stage": "$default"},
        }
        self._services.seconds = 0.0
        with contextlib.redirect_stdout(self._metrics):  # Lambda's log takes them; here nobody reads them
            started, worked = time.perf_counter(), time.thread_time()
            answer = self._handler(event, SimpleNamespace())
            seconds, worked = time.perf_counter() - started, time.thread_time() - worked
        assert answer["statusCode"] == expected, answer["body"]
        waited = self._services.seconds
        return json.loads(answer["body"]), _EventTiming(kind, (seconds - waited) * 1e3, worked * 1e3, waited * 1e3)


def _result(job_id: str) -> GenerationResult:
    stored = StoredImage(
        key=f"images/{job_id}/0.png", width=64, height=64, content_type="image/png", size=9000, sha256="0" * 64
    )
    image = GeneratedImage(seed=1, **stored.model_dump())
    return GenerationResult(images=[image], seed=1, model=_MODEL, version="0" * 16, target="openvino-fp32")


class _Services:
    """How long, and how often, AWS's services were waited for: from a request's first byte to its answer's last."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        from botocore.httpsession import URLLib3Session

        send = URLLib3Session.send

        def timed(session: Any, request: Any) -> Any:
            started = time.perf_counter()
            try:
                return send(session, request)
            finally:
                self.seconds += time.perf_counter() - started
                self.calls += 1

        URLLib3Session.send = timed
        try:
            yield
        finally:
            URLLib3Session.send = send


# ---- what is deployed ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _one_machine() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        yield {
            "DARKROOM_STORE_URL": f"file://{_BUNDLE}",
            "DARKROOM_JOBS_URL": f"sqlite:///{folder}/jobs.db",
            "DARKROOM_SIGNING_KEY": "of the benchmark",
        }


@contextlib.contextmanager
def _aws() -> Iterator[dict[str, str]]:
    """DynamoDB, S3 and SageMaker's runtime as moto plays them, in a process of its own."""
    port = free_port()
    server = [sys.executable, "-c", "import sys, moto.server; moto.server.main(sys.argv[1:])"]
    log = subprocess.DEVNULL
    process = subprocess.Popen([*server, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "S3_ENDPOINT_URL": endpoint,
        "S3_ADDRESSING_STYLE": "path",
        "DARKROOM_STORE_URL": "s3://engines",
        "DARKROOM_JOBS_URL": "dynamodb://jobs",
        "DARKROOM_POLICIES_URL": "dynamodb://policies",
        "DARKROOM_ENDPOINTS": f"{_MODEL}={_ENDPOINT}",
        "DARKROOM_ASYNC_URL": "s3://engines/async",
    }
    try:
        os.environ.update(environment)
        _wait_for(port)
        _make_account()
        yield environment
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError("moto does not start")


def _make_account() -> None:
    """Buckets, tables and the manifest of the bundled model: what the handler reads."""
    import boto3

    from darkroom.database.records import TABLE as POLICIES
    from darkroom.jobs.items import TABLE as JOBS

    boto3.client("s3").create_bucket(Bucket="engines")
    boto3.client("dynamodb").create_table(TableName="jobs", **JOBS)
    boto3.client("dynamodb").create_table(TableName="policies", **POLICIES)
    bundled, store = open_store(f"file://{_BUNDLE}"), open_store("s3://engines")
    version = catalog.current_version(bundled, _MODEL)
    catalog.put_manifest(store, catalog.load_manifest(bundled, _MODEL, version))
    catalog.set_current(store, _MODEL, version)
