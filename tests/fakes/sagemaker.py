"""SageMaker's runtime protocol in front of a container: invocations, and asynchronous ones through S3 and SNS.

`work` runs the oldest asynchronous request, so that a test says when. What SageMaker says of failures follows its
public documentation; nothing here was compared with the real service. What it writes lies under names that nobody could
guess: the answer (`OutputLocation`, `FailureLocation`: InvokeEndpointAsync in botocore's model) and the notification of
a success (`responseParameters.outputLocation`: "Check prediction results" in the Developer Guide) tell them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_PREFIX = "X-Amzn-SageMaker-"
_MODEL_ERROR, _VALIDATION_ERROR = "ModelError", "ValidationError"


@dataclass
class Queued:
    """One asynchronous request."""

    endpoint: str
    inference_id: str
    filename: str
    content_type: str
    accept: str
    body: bytes | None
    location: str | None
    ttl: str | None
    timeout: str | None


@dataclass
class Front:
    """The endpoint `name` around the container at `container` (its base URL). `client` makes boto3 clients.

    With `bucket`, `out`, `failed` and the topics it is asynchronous as an endpoint configuration would say.
    """

    name: str
    container: str
    client: Any = None
    bucket: str = "images"
    success_topic: str = ""
    error_topic: str = ""
    queue: deque[Queued] = field(default_factory=deque)
    received: list[Queued] = field(default_factory=list)
    variants: list[str | None] = field(default_factory=list)
    by_variant: dict[str, str] = field(default_factory=dict)  # containers of other variants
    url: str = ""

    def __enter__(self) -> Front:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, said = front.answer(self.path, dict(self.headers.items()), body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(said))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="sagemaker")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # ---- the protocol ---------------------------------------------------------------------------------------------

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        _, _, endpoint, operation = path.split("/")
        if endpoint != self.name:
            return _error(400, _VALIDATION_ERROR, {"Message": f"Endpoint {endpoint} of account 1 not found."})
        if operation == "async-invocations":
            return self._accept(headers, body)
        variant = headers.get(f"{_PREFIX}Target-Variant")
        self.variants.append(variant)
        container = self.by_variant.get(variant or "", self.container)
        answered = self._invoke(headers.get("Content-Type", ""), headers.get("Accept", ""), body, container)
        if answered.status_code == 200:
            return 200, {"Content-Type": "application/json"}, answered.content
        told = {
            "Message": f"Received server error ({answered.status_code}) from primary with message",
            "OriginalStatusCode": answered.status_code,
            "OriginalMessage": answered.text,
        }
        return _error(424, _MODEL_ERROR, told)

    def _accept(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        given = {name.lower(): value for name, value in headers.items()}

        def said(name: str) -> str | None:
            return given.get(f"{_PREFIX}{name}".lower())

        location = said("InputLocation")
        if bool(body) == bool(location) or len(body) > 128_000:
            return _error(400, _VALIDATION_ERROR, {"Message": "Give a body of at most 128000 bytes, or its location."})
        queued = Queued(
            self.name,
            said("Inference-Id") or "",
            said("Filename") or "",
            said("Content-Type") or "",
            said("Accept") or "",
            body or None,
            location,
            said("RequestTTLSeconds"),
            said("InvocationTimeoutSeconds"),
        )
        self.queue.append(queued)
        self.received.append(queued)
        places = {f"{_PREFIX}OutputLocation": self.output(queued), f"{_PREFIX}FailureLocation": self.failure(queued)}
        return 202, places, json.dumps({"InferenceId": queued.inference_id}).encode()

    def output(self, queued: Queued) -> str:
        """Where a request's answer is written."""
        return f"s3://{self.bucket}/async/out/{_anything(queued, 'out')}.out"

    def failure(self, queued: Queued) -> str:
        """Where what the container answered with a failure is written."""
        return f"s3://{self.bucket}/async/failed/{_anything(queued, 'failed')}-error.out"

    def _invoke(self, content_type: str, accept: str, body: bytes, container: str = "") -> httpx.Response:
        headers = {"Content-Type": content_type, "Accept": accept}
        return httpx.post(
            f"{container or self.container}/invocations", content=body, headers=headers, timeout=60, trust_env=False
        )

    # ---- what an asynchronous endpoint does by itself -------------------------------------------------------------

    def work(self) -> bool:
        """Run the oldest request to its notification; False where none waits."""
        if not self.queue:
            return False
        queued = self.queue.popleft()
        body = queued.body
        if queued.location:
            bucket, _, key = queued.location.removeprefix("s3://").partition("/")
            body = self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        answered = self._invoke(queued.content_type, queued.accept, body or b"")
        succeeded = answered.status_code == 200
        place = self.output(queued) if succeeded else self.failure(queued)
        bucket, _, key = place.removeprefix("s3://").partition("/")
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=answered.content)
        self.client("sns").publish(
            TopicArn=self.success_topic if succeeded else self.error_topic,
            Message=json.dumps(notification(queued, None if succeeded else answered.status_code, place)),
        )
        return True


def _anything(queued: Queued, folder: str) -> str:
    return hashlib.sha256(f"{folder} {queued.inference_id}".encode()).hexdigest()[:32]


def notification(queued: Queued, failed: int | None, place: str) -> dict[str, Any]:
    """What a topic is told of a request's end; `failed` is the status that the container answered with."""
    told: dict[str, Any] = {
        "awsRegion": "us-east-1",
        "eventTime": "2026-11-21T12:00:00.608Z",
        "receivedTime": "2026-11-21T12:00:00.455Z",
        "invocationStatus": "Completed" if failed is None else "Failed",
        "requestParameters": {"endpointName": queued.endpoint, "inputLocation": queued.location or ""},
        "inferenceId": queued.inference_id,
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    if failed is None:
        return told | {"responseParameters": {"contentType": "application/json", "outputLocation": place}}
    return told | {"failureReason": f"ClientError: Received server error ({failed}) from model. See the logs."}


def _error(status: int, kind: str, told: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return status, {"x-amzn-errortype": kind, "Content-Type": "application/json"}, json.dumps(told).encode()
