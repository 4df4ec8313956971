"""The deployment without a cloud: the functions' own handlers, moto over HTTP, and the real runtime behind SageMaker's
protocol. Nothing but loopback can be reached."""

from __future__ import annotations

import base64
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import httpx
import pytest

from api.blocking import at_once
from api.waiting import polling
from darkroom.database.records import TABLE as POLICIES
from darkroom.jobs.items import TABLE as JOBS
from functions import api, job_events
from tests.fakes import aws
from tests.fakes.sagemaker import Front

PATIENCE_SECONDS = 60
ENDPOINT = "darkroom-tiny"
KEY = "a-key-of-alice"


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> Iterator[None]:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test may not reach {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


class Account:
    """What the template makes, in an account of moto's: buckets, tables, topics, a secret and an endpoint."""

    def __init__(self, endpoint: str) -> None:
        self.environment = aws.environment(endpoint)
        s3 = self.client("s3")
        for bucket in ("engines", "images"):
            s3.create_bucket(Bucket=bucket)
        self.client("dynamodb").create_table(TableName="jobs", **JOBS)
        self.client("dynamodb").create_table(TableName="policies", **POLICIES)
        self.queue = self.client("sqs").create_queue(QueueName="told")["QueueUrl"]
        arn = self.client("sqs").get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        self.topics = {}
        for topic in ("succeeded", "failed"):
            self.topics[topic] = self.client("sns").create_topic(Name=topic)["TopicArn"]
            queue = arn["Attributes"]["QueueArn"]
            self.client("sns").subscribe(TopicArn=self.topics[topic], Protocol="sqs", Endpoint=queue)
        self.secret = self.client("secretsmanager").create_secret(Name="keys", SecretString=json.dumps({"alice": KEY}))
        self._endpoint()

    @functools.cache  # noqa: B019 (one account a file; a client takes longer to make than a job to run)
    def client(self, service: str) -> Any:
        found = self.environment
        return boto3.session.Session().client(
            service,
            endpoint_url=found["AWS_ENDPOINT_URL"],
            region_name=aws.REGION,
            aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
        )

    def _endpoint(self) -> None:
        sagemaker = self.client("sagemaker")
        image = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/runtime:1"}
        role = "arn:aws:iam::123456789012:role/container"
        sagemaker.create_model(ModelName="tiny", ExecutionRoleArn=role, PrimaryContainer=image)
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": "tiny",
            "InitialInstanceCount": 1,
            "InstanceType": "ml.g4dn.12xlarge",
        }
        output = {"S3OutputPath": "s3://images/async/out/", "S3FailurePath": "s3://images/async/failed/"}
        sagemaker.create_endpoint_config(
            EndpointConfigName=ENDPOINT, ProductionVariants=[variant], AsyncInferenceConfig={"OutputConfig": output}
        )
        sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)


@pytest.fixture(scope="module")
def account(tiny_store: Path) -> Iterator[Account]:
    """With the tiny bundle published. No account outlives a file: moto's state is the process's, and forgotten where a
    test of another file begins `mock_aws`.
    """
    with aws.serving() as endpoint:
        httpx.post(f"{endpoint}/moto-api/reset")
        made = Account(endpoint)
        for path in sorted(tiny_store.rglob("*")):
            if path.is_file() and path.parent.name not in ("onnxruntime", "openvino-int8"):
                made.client("s3").upload_file(str(path), "engines", path.relative_to(tiny_store).as_posix())
        yield made


@contextmanager
def started(account: Account, **variables: str) -> Iterator[Running]:
    """The real runtime, started as SageMaker starts it: with the argument `serve`, until it is ready.

    It must end well: a signal is sent where the test sent none.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RUNTIME_", "AWS_", "S3_"))}
        settings = {
            "RUNTIME_STORE_URL": "s3://engines",
            "RUNTIME_IMAGES_URL": "s3://images",
            "RUNTIME_MODEL": "tiny",
            "RUNTIME_TARGET": "openvino-fp32",
            "RUNTIME_THREADS": "1",
            "RUNTIME_FD": str(listening.fileno()),
            **variables,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "runtime", "serve"],
            env={**clean, **account.environment, **settings},
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        running = Running(process, f"http://127.0.0.1:{listening.getsockname()[1]}")
        with process:
            try:
                running.told("ready")
                yield running
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=PATIENCE_SECONDS)
                assert process.returncode == 0
            finally:
                process.kill()


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    url: str

    def told(self, event: str) -> None:
        """Wait until the log tells of an event."""
        assert self.process.stdout
        lines = []
        for line in self.process.stdout:
            lines.append(json.loads(line))
            if lines[-1]["event"] == event:
                return
        raise AssertionError(lines)


@pytest.fixture(scope="module")
def container(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a runtime that has the tiny bundle from the object store."""
    with started(account, RUNTIME_CACHE_DIR=str(tmp_path_factory.mktemp("cache"))) as running:
        yield running.url


class Stack:
    """The deployed functions around one endpoint. While the handler waits, the endpoint works and its topics tell."""

    def __init__(self, account: Account, front: Front) -> None:
        self.account = account
        self.front = front
        self.works = True
        self.now = 0.0
        services = api.from_environment()
        wait = polling(services.jobs, at_once, clock=lambda: self.now, sleep=self.sleep)
        self.services = replace(services, wait=wait)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.works:
            self.front.work()
            self.deliver()

    def messages(self) -> list[dict[str, Any]]:
        """What the topics have told since the last call, as records of Lambda events."""
        sqs, told = self.account.client("sqs"), []
        while found := sqs.receive_message(QueueUrl=self.account.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                sqs.delete_message(QueueUrl=self.account.queue, ReceiptHandle=message["ReceiptHandle"])
                told.append({"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": json.loads(message["Body"])})
        return told

    def deliver(self) -> None:
        """Each message is one event, as SNS calls a function."""
        for record in self.messages():
            job_events.lambda_handler({"Records": [record]}, SimpleNamespace())

    def settle(self) -> None:
        """Run everything that is queued, to its end."""
        while self.front.work():
            self.deliver()

    def sweep(self, *, later: float) -> dict[str, int]:
        """The scheduled event, that many seconds later."""
        wired = replace(job_events.from_environment(), wall=lambda: time.time() + later)
        return job_events.lambda_handler({"source": "aws.events"}, SimpleNamespace(), wired=wired)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, httpx.Headers, Any]:
        """One request through API Gateway: status, headers, parsed body."""
        sent = {"content-type": "application/json", "x-api-key": KEY}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl"}
        event = {
            "version": "2.0",
            "routeKey": "ANY /v1/{proxy+}",
            "rawPath": path,
            "rawQueryString": "",
            "headers": sent,
            "body": base64.b64encode(json.dumps(body).encode()).decode() if body is not None else None,
            "isBase64Encoded": body is not None,
            "requestContext": {"http": http, "requestId": "request-1", "stage": "$default"},
        }
        answer = api.lambda_handler(event, SimpleNamespace(), services=self.services)
        told = answer["body"]
        return answer["statusCode"], httpx.Headers(answer["headers"]), json.loads(told) if told else None

    def predict(self, prompt: str, *, prefer: str = "wait=25", **asked: Any) -> tuple[int, httpx.Headers, Any]:
        return self.ask("POST", "/v1/models/tiny:predict", {"prompt": prompt, **asked}, prefer=prefer)


@pytest.fixture
def stack(account: Account, container: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stack]]:
    """Makes the stack of a test; `given` are settings, as the template sets them."""
    fronts: list[Front] = []

    def make(**given: str) -> Stack:
        topics = {"success_topic": account.topics["succeeded"], "error_topic": account.topics["failed"]}
        front = Front(ENDPOINT, container, account.client, "images", **topics)
        fronts.append(front.__enter__())
        settings = {
            "DARKROOM_STORE_URL": "s3://engines",
            "DARKROOM_IMAGES_URL": "s3://images",
            "DARKROOM_JOBS_URL": "dynamodb://jobs",
            "DARKROOM_POLICIES_URL": "dynamodb://policies",
            "DARKROOM_DEFAULT_MODEL": "tiny",
            "DARKROOM_ENDPOINTS": f"tiny={ENDPOINT}",
            "DARKROOM_ASYNC_URL": "s3://images/async",
            "DARKROOM_API_KEYS_SECRET": account.secret["ARN"],
            "DARKROOM_ADMINS": "alice",
            "DARKROOM_JOB_SECONDS": "3600",
            "POWERTOOLS_METRICS_DISABLED": "true",
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": front.url,
            **{f"DARKROOM_{name.upper()}": value for name, value in given.items()},
        }
        for name, value in {**account.environment, **settings}.items():
            monkeypatch.setenv(name, value)
        _forget()
        return Stack(account, front)

    yield make
    _forget()
    for front in fronts:
        front.__exit__()


def _forget() -> None:
    api.from_environment.cache_clear()
    job_events.from_environment.cache_clear()
