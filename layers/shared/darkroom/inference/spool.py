"""What lies in S3 between the API and an asynchronous endpoint, and how its answers are read."""

from __future__ import annotations

import json
import os
import re

from pydantic import ValidationError

from darkroom.contracts import GenerationResult
from darkroom.errors import (
    DarkroomError,
    GenerationFailed,
    InvalidParameter,
    ObjectNotFound,
    Overloaded,
    Problem,
    RuntimeUnavailable,
)
from darkroom.inference import Unreached
from darkroom.storage import ObjectStore

JSON = "application/json"
_OUT, _FAILED = "out", "failed"  # folders, as the endpoint's configuration has them
_STATUS = re.compile(r"\((\d{3})\)")
_NOT_TAKEN = {429, 502, 504}  # a load balancer's or the service's own words for: nobody took it
_INFERENCE_ID = re.compile(r"([0-9a-f]{32})\.(\d{1,3})")


class Spool:
    """What lies in S3 between the API and an asynchronous endpoint: requests at `in/{job}`, and what it writes.

    `url` is the store's own S3 address, which SageMaker reads from and writes to with a role of its own. What it writes
    it names itself: a notification tells the name of a result, and the answer to a request those of result and failure,
    which lie at `sent/{job}.{attempt}` for whoever hears of no notification.
    """

    def __init__(self, url: str, store: ObjectStore) -> None:
        self._url = url.rstrip("/")
        self._store = store

    def keep(self, job_id: str, body: bytes) -> str:
        """Store a request; its S3 address. Raises: StorageUnavailable."""
        key = f"in/{job_id}"
        self._store.put(key, body, content_type=JSON)
        return f"{self._url}/{key}"

    def remember(self, job_id: str, attempt: int, output: str, failure: str) -> None:
        """Where the endpoint will write an attempt's result, or failure: S3 addresses, empty where it did not say.

        Raises: StorageUnavailable, StorageFull.
        """
        if (output, failure) != tuple(f"{self._url}/{folder}/{job_id}" for folder in (_OUT, _FAILED)):
            body = json.dumps({_OUT: output, _FAILED: failure}).encode()
            self._store.put(_sent(job_id, attempt), body, content_type=JSON)

    def result(self, job_id: str, *, attempt: int, address: str = "") -> GenerationResult:
        """The result at the `address` that a notification tells, or else where the answer to the request said.

        Raises: ObjectNotFound, StorageUnavailable, RuntimeUnavailable (it cannot be read).
        """
        return read_result(self._store.get(self._key(address or self._address(job_id, attempt, _OUT))))

    def failure(self, job_id: str, reason: str, *, attempt: int) -> DarkroomError:
        """What the container answered, or else what SageMaker's sentence lets us know. Raises: StorageUnavailable."""
        return self.failed(job_id, reason, attempt=attempt) or read_problem(b"", reason)

    def failed(self, job_id: str, reason: str = "", *, attempt: int) -> DarkroomError | None:
        """What the container answered; None where it has not failed. Raises: StorageUnavailable."""
        try:
            return read_problem(self._store.get(self._key(self._address(job_id, attempt, _FAILED))), reason)
        except ObjectNotFound:
            return None

    def _address(self, job_id: str, attempt: int, folder: str) -> str:
        """Where an attempt is written; under the name that was asked for, where nobody has kept what was answered."""
        try:
            kept = json.loads(self._store.get(_sent(job_id, attempt)))[folder]
        except (ObjectNotFound, ValueError, KeyError, TypeError):
            kept = ""
        return kept if isinstance(kept, str) and kept else f"{self._url}/{folder}/{job_id}"

    def _key(self, address: str) -> str:
        """Raises: ObjectNotFound, where it is none of this spool's."""
        prefix = f"{self._url}/"
        if not address.startswith(prefix):
            raise ObjectNotFound
        return address.removeprefix(prefix)


def _sent(job_id: str, attempt: int) -> str:
    return f"sent/{job_id}.{attempt}"


def open_spool(url: str) -> Spool:
    """The spool at an S3 address: on AWS always, also where images and bundles lie elsewhere (`S3_*` is not read)."""
    from urllib.parse import urlsplit

    from darkroom.storage.s3 import S3Store

    parts = urlsplit(url)
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("S3_")}
    return Spool(url, S3Store(parts.netloc, parts.path.strip("/"), environment=elsewhere))


def attempt_of(inference_id: str) -> tuple[str, int] | None:
    """(job id, attempt) of an inference id that `SageMakerAsync` gave; None for any other."""
    match = _INFERENCE_ID.fullmatch(inference_id)
    return (match[1], int(match[2])) if match else None


def read_result(body: bytes) -> GenerationResult:
    """Raises: RuntimeUnavailable."""
    try:
        return GenerationResult.model_validate_json(body)
    except ValidationError:
        raise RuntimeUnavailable("The runtime's answer cannot be read.") from None


def read_problem(body: bytes, reason: str) -> DarkroomError:
    """The error a container answered with (`body`), or what the status in SageMaker's sentence about it means."""
    try:
        return DarkroomError.from_problem(Problem.model_validate_json(body))
    except ValidationError:
        pass
    match = _STATUS.search(reason)
    status = int(match[1]) if match else 0
    if status == Overloaded.status:
        return Overloaded("The endpoint's instances are all busy.")
    if status in _NOT_TAKEN:
        return Unreached("The endpoint did not take the request.")
    if 400 <= status < 500:
        return InvalidParameter("The runtime refused the request.")
    return GenerationFailed()
