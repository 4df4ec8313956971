"""DynamoJobStore: jobs in one DynamoDB table, where nothing but the table is shared."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from darkroom.contracts import GenerationRequest, GenerationResult, Job, JobStatus, Progress
from darkroom.errors import (
    IdempotencyKeyReused,
    JobFinished,
    JobNotFound,
    JobStoreUnavailable,
    Overloaded,
    Poisoned,
    Problem,
)
from darkroom.jobs import Accepted, Idempotency, Lease
from darkroom.jobs.lease_watch import LeaseWatch
from darkroom.jobs.table import Contended, Item, Refused, Table, Value

# What `create_table` makes of the jobs' table. Beside the jobs it holds each request's idempotency key (`key:...`), the
# parts of requests that are too large for one item (`part:...`), and the number of the last job (`sequence`).
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "status", "AttributeType": "S"},
        {"AttributeName": "seq", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "status",
            "KeySchema": [
                {"AttributeName": "status", "KeyType": "HASH"},
                {"AttributeName": "seq", "KeyType": "RANGE"},
            ],
            "Projection": {
                "ProjectionType": "INCLUDE",
                "NonKeyAttributes": ["token", "beat", "created_at", "finished_at"],
            },
        }
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
EXPIRES = "expires_at"  # the table's TTL attribute
_ID = re.compile(r"[0-9a-f]{32}")
_RETRY_AFTER_SECONDS = 5
_TRIES, _PAUSE = 8, 0.02  # seconds, doubled each time: writers of one idempotency key step aside for each other
_PART_BYTES = 300_000  # an item has at most 400 KB
_KEY_MARGIN = 7 * 86_400  # an idempotency key is remembered for this much longer than its job was to be
_UNFINISHED: dict[str, Value] = {"queued": JobStatus.QUEUED.value, "running": JobStatus.RUNNING.value}
_IS_UNFINISHED = "#status IN (:queued, :running)"


class DynamoJobStore:
    """A JobStore in the table that `TABLE` describes. Safe to use from several threads and processes.

    Every change is one conditional write on the job's own item, or a transaction. Queues are read from an index, which
    lags a moment behind: it only proposes, the conditional write decides. `max_queued` may therefore be exceeded by
    what is accepted in that moment. Finished jobs disappear `keep_seconds` after their end, by the table's TTL.

    `wall` (seconds since the epoch) only dates jobs; `monotonic` (seconds) measures leases.
    """

    def __init__(
        self,
        table: str,
        *,
        max_queued: int = 1000,
        max_attempts: int = 3,
        lease_seconds: float = 10.0,
        keep_seconds: float = 30 * 86_400.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = Table(table)
        self._max_queued = max_queued
        self._max_attempts = max_attempts
        self._keep_seconds = keep_seconds
        self._wall = wall
        self._sleep = sleep
        self._watch = LeaseWatch(lease_seconds, monotonic)

    def close(self) -> None:
        self._table.close()

    # ---- what the API does ----------------------------------------------------------------------------------------

    def create(
        self, model: str, request: GenerationRequest, *, tenant: str, idempotency: Idempotency | None
    ) -> Accepted:
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(_PAUSE * 2 ** (attempt - 1))
            key = self._table.get({"id": _key_id(tenant, idempotency)}) if idempotency else None
            first = self._table.get({"id": key["job"]}) if key else None
            if key and first and idempotency:
                if (key["fingerprint"], first["model"]) != (idempotency.fingerprint, model):
                    raise IdempotencyKeyReused
                return Accepted(self._job(first), replayed=True)
            try:
                return Accepted(self._insert(model, request, tenant, idempotency, key), replayed=False)
            except (Refused, Contended):  # another submission took this idempotency key since we looked
                continue
        raise JobStoreUnavailable

    def _insert(
        self,
        model: str,
        request: GenerationRequest,
        tenant: str,
        idempotency: Idempotency | None,
        stale: Item | None,
    ) -> Job:
        """`stale`: the item of this idempotency key, where the job it stands for is forgotten."""
        if self._count(JobStatus.QUEUED, self._max_queued) >= self._max_queued:
            raise Overloaded(retry_after=_RETRY_AFTER_SECONDS)
        job = Job(id=secrets.token_hex(16), tenant=tenant, model=model, request=request, created_at=self._wall())
        text = request.model_dump_json().encode()
        parts = [text[start : start + _PART_BYTES] for start in range(0, len(text), _PART_BYTES)]
        whole = len(parts) == 1
        item: dict[str, Value | None] = {
            "id": job.id,
            "seq": self._table.update({"id": "sequence"}, "ADD #last :one", "", {"one": 1})["last"],
            "tenant": tenant,
            "model": model,
            "status": job.status.value,
            "request": text.decode() if whole else None,
            "parts": None if whole else len(parts),
            "created_at": job.created_at,
            "attempts": 0,
            "step": 0,
            "steps": 0,
            "beat": 0,
            "key": _key_id(tenant, idempotency) if idempotency else None,
        }
        writes = [self._table.putting(item, "attribute_not_exists(#id)")]
        gone = int(job.created_at + self._keep_seconds + _KEY_MARGIN)
        if not whole:
            writes += [
                self._table.putting({"id": _part_id(job.id, number), "part": part, EXPIRES: gone})
                for number, part in enumerate(parts)
            ]
        if idempotency:
            key = {"id": item["key"], "job": job.id, "fingerprint": idempotency.fingerprint, EXPIRES: gone}
            free = "attribute_not_exists(#id)" if stale is None else "attribute_not_exists(#id) OR #job = :stale"
            writes.append(self._table.putting(key, free, stale="" if stale is None else stale["job"]))
        self._table.write(writes)
        return job

    def get(self, job_id: str, *, tenant: str) -> Job:
        job = self.find(job_id)
        if job.tenant != tenant:
            raise JobNotFound
        return job

    def cancel(self, job_id: str, *, tenant: str) -> Job:
        self.get(job_id, tenant=tenant)
        try:
            return self._job(self._end(job_id, JobStatus.CANCELLED, {}))
        except Refused:
            raise JobFinished from None

    def counts(self) -> dict[JobStatus, int]:
        return {status: self._count(status) for status in JobStatus}

    def purge(self, *, finished_before: float) -> int:
        purged = 0
        for status in (status for status in JobStatus if status.finished):
            for found in list(self._of(status)):
                if found["finished_at"] < finished_before:
                    purged += self._forget(found["id"])
        return purged

    def _forget(self, job_id: str) -> bool:
        """The job itself goes last, so that what is cut off here is taken up again."""
        item = self._table.get({"id": job_id})
        if item is None:
            return False
        try:
            if "key" in item:
                self._table.delete({"id": item["key"]}, "#job = :job OR attribute_not_exists(#id)", job=job_id)
            for number in range(item.get("parts", 0)):
                self._table.delete({"id": _part_id(job_id, number)}, "attribute_exists(#id)")
        except Refused:
            pass  # the key stands for a newer job already, or the parts went with the table's TTL
        try:
            self._table.delete({"id": job_id}, "attribute_exists(#id)")
        except Refused:
            return False
        return True

    # ---- what a worker does ---------------------------------------------------------------------------------------

    def claim(self, worker: str) -> Lease | None:
        running = {item["id"]: (item["token"], item["beat"]) for item in self._of(JobStatus.RUNNING)}
        for job_id, (token, beat) in self._watch.silent(running).items():
            # Compare and set: whoever beat or took over since we looked keeps the job.
            unmoved = "#token = :seen AND #beat = :beat"
            if lease := self._take(job_id, worker, unmoved, {"seen": token, "beat": beat}):
                return lease
        for item in self._of(JobStatus.QUEUED):
            if lease := self._take(item["id"], worker, "#status = :queued", _UNFINISHED):
                return lease
        return None

    def _take(self, job_id: str, worker: str, when: str, values: Mapping[str, Value]) -> Lease | None:
        """The job, if it still is as `when` says; one that was tried often enough is given up instead."""
        token = secrets.token_hex(16)
        change = (
            "SET #status = :running, #started_at = :now, #attempts = #attempts + :one, #step = :zero, #steps = :zero, "
            "#worker = :worker, #token = :token, #beat = :zero"
        )
        given = {**values, **_UNFINISHED, "now": self._wall(), "one": 1, "zero": 0, "most": self._max_attempts}
        given |= {"worker": worker, "token": token}
        try:
            taken = self._table.update({"id": job_id}, change, f"{when} AND #attempts < :most", given)
            return Lease(self._job(taken), token)
        except Refused:
            pass
        try:
            error = {"error": Poisoned().problem().model_dump_json()}
            self._end(job_id, JobStatus.FAILED, error, f"{when} AND #attempts >= :most", given)
        except Refused:
            pass
        return None

    def beat(self, lease: Lease, progress: Progress) -> bool:
        change = "SET #beat = #beat + :one, #step = :step, #steps = :steps"
        return self._while_held(lease, change, {"one": 1, "step": progress.step, "steps": progress.steps})

    def succeed(self, lease: Lease, result: GenerationResult) -> bool:
        return self._ended(lease.job.id, result, "#token = :token", {"token": lease.token})

    def fail(self, lease: Lease, problem: Problem) -> bool:
        return self._ended(lease.job.id, problem, "#token = :token", {"token": lease.token})

    def release(self, lease: Lease, *, counts_as_attempt: bool) -> bool:
        change = (
            "SET #status = :queued, #step = :zero, #steps = :zero, #attempts = #attempts - :uncounted "
            "REMOVE #token, #worker, #started_at"
        )
        return self._while_held(lease, change, {"zero": 0, "uncounted": 0 if counts_as_attempt else 1})

    def _while_held(self, lease: Lease, change: str, values: Mapping[str, Value]) -> bool:
        """Write only under the lease's own token; a job that left it has another or none."""
        try:
            given = {**values, **_UNFINISHED, "token": lease.token}
            self._table.update({"id": lease.job.id}, change, "#token = :token", given)
        except Refused:
            return False
        return True

    # ---- what is told by a service that runs jobs ----------------------------------------------------------------

    def find(self, job_id: str) -> Job:
        item = self._table.get({"id": job_id}) if _ID.fullmatch(job_id) else None
        if item is None:
            raise JobNotFound
        return self._job(item)

    def settle(self, job_id: str, ended: GenerationResult | Problem) -> bool:
        settled = self._ended(job_id, ended, _IS_UNFINISHED, {})
        if not settled:
            self.find(job_id)
        return settled

    def overdue(self, *, accepted_before: float) -> list[Job]:
        unfinished = [item for status in (JobStatus.QUEUED, JobStatus.RUNNING) for item in self._of(status)]
        jobs = [self.find(item["id"]) for item in unfinished if item["created_at"] < accepted_before]
        return [job for job in jobs if not job.status.finished]

    # ---- the table ------------------------------------------------------------------------------------------------

    def _ended(self, job_id: str, ended: GenerationResult | Problem, when: str, values: Mapping[str, Value]) -> bool:
        succeeded = isinstance(ended, GenerationResult)
        status, name = (JobStatus.SUCCEEDED, "result") if succeeded else (JobStatus.FAILED, "error")
        try:
            self._end(job_id, status, {name: ended.model_dump_json()}, when, values)
        except Refused:
            return False
        return True

    def _end(
        self,
        job_id: str,
        status: JobStatus,
        with_it: Mapping[str, Value],
        when: str = _IS_UNFINISHED,
        values: Mapping[str, Value] = _UNFINISHED,
    ) -> Item:
        now = self._wall()
        said = {"status": status.value, "finished_at": now, EXPIRES: int(now + self._keep_seconds), **with_it}
        change = f"SET {', '.join(f'#{name} = :new_{name}' for name in said)} REMOVE #token"
        given = {**values, **_UNFINISHED, **{f"new_{name}": value for name, value in said.items()}}
        return self._table.update({"id": job_id}, change, when, given)

    def _of(self, status: JobStatus) -> Iterator[Item]:
        return self._table.query("#status = :status", {"status": status.value}, index="status")

    def _count(self, status: JobStatus, up_to: int | None = None) -> int:
        return self._table.count("#status = :status", {"status": status.value}, index="status", up_to=up_to)

    def _job(self, item: Item) -> Job:
        return Job(
            id=item["id"],
            tenant=item["tenant"],
            model=item["model"],
            request=GenerationRequest.model_validate_json(self._request(item)),
            status=JobStatus(item["status"]),
            created_at=item["created_at"],
            started_at=item.get("started_at"),
            finished_at=item.get("finished_at"),
            attempts=item["attempts"],
            progress=Progress(step=item["step"], steps=item["steps"]),
            result=GenerationResult.model_validate_json(item["result"]) if "result" in item else None,
            error=Problem.model_validate_json(item["error"]) if "error" in item else None,
        )

    def _request(self, item: Item) -> str | bytes:
        if "request" in item:
            return str(item["request"])
        parts = [self._table.get({"id": _part_id(item["id"], number)}) for number in range(item["parts"])]
        return b"".join(part["part"] for part in parts if part)


def _key_id(tenant: str, idempotency: Idempotency) -> str:
    """Keys are each tenant's own; hashed, because both are the caller's words and may be long."""
    whose = f"{tenant}\n{idempotency.key}"
    return f"key:{hashlib.sha256(whose.encode()).hexdigest()}"


def _part_id(job_id: str, number: int) -> str:
    return f"part:{job_id}:{number}"
