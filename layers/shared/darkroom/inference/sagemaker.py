"""SageMaker endpoints: asynchronous ones, which queue and may sleep, and real-time ones, which answer."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from darkroom.contracts import GenerationResult, Invocation, Job
from darkroom.endpoints import Endpoints
from darkroom.errors import DarkroomError, DeadlineExceeded, Problem, StorageFull, StorageUnavailable
from darkroom.inference import AnswerLost, Unreached
from darkroom.inference.disposition import Disposition, disposition, ends
from darkroom.inference.spool import JSON, Spool, read_problem, read_result
from darkroom.jobs import JobStore
from darkroom.retry import Retry

_log = logging.getLogger(__name__)  # of no process in particular: Lambda writes it to the function's log
INLINE_BYTES = 128_000  # what InvokeEndpointAsync takes in its body; more lies in S3
_LONGEST_WAIT, _LONGEST_RUN = (60, 21_600), (1, 3600)  # seconds that SageMaker allows a request to queue and to run
_PAUSE = 0.5  # seconds before a request that nobody took is sent again, doubled each time
_CUT_OFF_SECONDS = 1.0  # left over for storing the outcome before a gateway cuts the caller off


class SageMakerAsync:
    """An asynchronous endpoint. A notification tells of the end, and `Spool` reads it (see `functions/job_events.py`).

    `client` is made on first use. What was sent cannot be taken back: a cancelled job's result is refused instead.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        spool: Spool,
        *,
        job_seconds: float,
        client: Any = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._endpoints = endpoints
        self._spool = spool
        self._job_seconds = job_seconds
        self._client = RuntimeClient(client, read_seconds=5, attempts=3, late=AnswerLost)
        self._wall = wall

    def submit(self, job: Job) -> Job:
        self.send(job, attempt=1)
        return job

    def withdraw(self, job: Job) -> None:
        pass

    def send(self, job: Job, *, attempt: int) -> None:
        """Queue an attempt at a job. Raises: Unreached, ModelNotFound, DeadlineExceeded, StorageUnavailable.

        One whose answer is lost counts as sent, for it may be: its notification ends the job, or else the sweep does.
        """
        left = self._job_seconds - max(0.0, self._wall() - job.created_at)
        if left <= 0:
            raise DeadlineExceeded
        body = invocation(job, left)
        place: dict[str, Any] = {"Body": body}
        if len(body) > INLINE_BYTES:
            place = {"InputLocation": self._spool.keep(job.id, body)}
        with contextlib.suppress(AnswerLost):
            answer = self._client.call(
                "invoke_endpoint_async",
                EndpointName=self._endpoints.of(job.model),
                ContentType=JSON,
                Accept=JSON,
                InferenceId=f"{job.id}.{attempt}",
                Filename=job.id,
                RequestTTLSeconds=_within(left, _LONGEST_WAIT),
                InvocationTimeoutSeconds=_within(left, _LONGEST_RUN),
                **place,
            )
            self._remember(job, attempt, answer)

    def _remember(self, job: Job, attempt: int, answer: Mapping[str, Any]) -> None:
        try:
            places = (str(answer.get(name, "")) for name in ("OutputLocation", "FailureLocation"))
            self._spool.remember(job.id, attempt, *places)
        except (StorageUnavailable, StorageFull):  # the request was taken, and a notification will tell of its result
            _log.warning("where the endpoint writes job %s could not be kept", job.id, exc_info=True)


class SageMakerRealTime:
    """A real-time endpoint: `submit` comes back with the job ended, because nobody would hear of its end later.

    An attempt that failed for a reason worth another is made again, up to `attempts` times within `seconds`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        jobs: JobStore,
        *,
        seconds: float,
        attempts: int,
        client: Any = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoints = endpoints
        self._jobs = jobs
        self._seconds = max(_CUT_OFF_SECONDS, seconds - _CUT_OFF_SECONDS)
        self._attempts = attempts
        self._client = RuntimeClient(client, read_seconds=self._seconds, attempts=1, late=DeadlineExceeded)
        self._clock = clock
        self._sleep = sleep

    def submit(self, job: Job) -> Job:
        ended: GenerationResult | Problem
        try:
            ended = self._insist(job)
        except DarkroomError as error:
            ended = error.problem()
        self._jobs.settle(job.id, ended)
        return self._jobs.find(job.id)

    def withdraw(self, job: Job) -> None:
        pass

    def _insist(self, job: Job) -> GenerationResult:
        until, pauses, attempt = self._clock() + self._seconds, Retry(self._attempts, _PAUSE).pauses(), 1
        while True:
            try:
                return self._invoke(job, until - self._clock())
            except DarkroomError as error:
                if final := ends(error, attempt, self._attempts):
                    raise final from None
                pause = 0.0 if disposition(error) is Disposition.RETRY else next(pauses)
                if self._clock() + max(pause, _PAUSE) >= until:
                    raise
            attempt += 1
            if pause:
                self._sleep(pause)

    def _invoke(self, job: Job, seconds: float) -> GenerationResult:
        answer = self._client.call(
            "invoke_endpoint",
            EndpointName=self._endpoints.of(job.model),
            ContentType=JSON,
            Accept=JSON,
            InferenceId=job.id,
            Body=invocation(job, seconds),
        )
        return read_result(answer["Body"])


def invocation(job: Job, seconds: float) -> bytes:
    """What the container is sent. Raises: Unreadable."""
    invocation = Invocation(id=job.id, tenant=job.tenant, request=job.readable_request(), deadline_seconds=seconds)
    return invocation.model_dump_json().encode()


def _within(seconds: float, limits: tuple[int, int]) -> int:
    return max(limits[0], min(int(seconds), limits[1]))


class RuntimeClient:
    """boto3's `sagemaker-runtime` client, made on first use, with its failures in our words.

    Callers are told no more than they need; what the service said is in the log. Neither prompt nor image ever is.
    """

    def __init__(self, given: Any, *, read_seconds: float, attempts: int, late: type[DarkroomError]) -> None:
        self._connected = given
        self._read_seconds = read_seconds
        self._attempts = attempts
        self._late = late
        self._connecting = threading.Lock()

    def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """The answer, its `Body` as bytes. Raises: Unreached, `late` where no answer came in time, AnswerLost where it
        broke off, or the error that the container answered."""
        from botocore import exceptions
        from botocore.exceptions import BotoCoreError, ClientError

        broken = (exceptions.ConnectionClosedError, exceptions.ResponseStreamingError, exceptions.IncompleteReadError)
        try:
            answer: Mapping[str, Any] = getattr(self._client, operation)(**arguments)
            return {**answer, "Body": answer["Body"].read()} if "Body" in answer else answer
        except ClientError as failed:
            error = failed.response
            if "OriginalStatusCode" in error:  # ModelError: the container itself answered, and its log says why
                _log.warning("%s: the container answered %s", operation, error["OriginalStatusCode"])
                body = str(error.get("OriginalMessage", "")).encode()
                raise read_problem(body, f"({error['OriginalStatusCode']})") from None
            said = error.get("Error", {})
            _log.error("%s was refused: %s: %s", operation, said.get("Code"), said.get("Message"))
            raise Unreached("The endpoint does not take requests.") from failed
        except exceptions.ReadTimeoutError as failed:
            _log.error("%s: no answer within %s s", operation, self._read_seconds)
            raise self._late from failed
        except broken as failed:
            _log.error("%s: the connection broke: %s", operation, failed)
            raise AnswerLost("The connection to the endpoint broke.") from failed
        except BotoCoreError as failed:
            _log.error("%s failed: %s", operation, failed)
            raise Unreached("The endpoint does not answer.") from failed

    @property
    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                import boto3
                from botocore.config import Config

                config = Config(
                    connect_timeout=2,
                    read_timeout=self._read_seconds,
                    retries={"mode": "standard", "total_max_attempts": self._attempts},
                )
                self._connected = boto3.session.Session().client("sagemaker-runtime", config=config)
            return self._connected
