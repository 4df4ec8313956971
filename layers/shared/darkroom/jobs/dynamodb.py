"""DynamoJobStore: jobs in one DynamoDB table, where nothing but the table is shared."""

from __future__ import annotations

import functools
import itertools
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping

from darkroom.contracts import GenerationRequest, GenerationResult, Job, JobStatus, Progress
from darkroom.database.dynamodb import ConditionFailed, Item, Table, Value, contested, recognised
from darkroom.errors import IdempotencyKeyReused, JobFinished, JobNotFound, JobUnfinished, Overloaded, Poisoned, Problem
from darkroom.jobs import items
from darkroom.jobs.lease_watch import LeaseWatch
from darkroom.jobs.store import FULL_SECONDS, Accepted, Idempotency, Lease, Page

_UNFINISHED: dict[str, Value] = {"queued": JobStatus.QUEUED.value, "running": JobStatus.RUNNING.value}
_IS_UNFINISHED = "#status IN (:queued, :running)"


class DynamoJobStore:
    """A JobStore in the table that `items.TABLE` describes. Safe to use from several threads and processes.

    Every change is one conditional write on the job's own item, or a transaction. Queues are read from an index, which
    lags a moment behind: it only proposes, the conditional write decides. `max_queued` may therefore be exceeded by
    what is accepted in that moment. Jobs are claimed in the order of acceptance, whoever sent them. Finished jobs
    disappear `keep_seconds` after their end, by the table's TTL.

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
        self._models: dict[str, str] = {}  # of waiting jobs that could not be taken; the index does not say it

    def close(self) -> None:
        self._table.close()

    # ---- what the API does ----------------------------------------------------------------------------------------

    def create(
        self, model: str, request: GenerationRequest, *, tenant: str, idempotency: Idempotency | None
    ) -> Accepted:
        job = Job(id=secrets.token_hex(16), tenant=tenant, model=model, request=request, created_at=self._wall())

        def attempt() -> Accepted:
            key = self._table.get({"id": items.key_id(tenant, idempotency)}) if idempotency else None
            first = self._table.get({"id": key["job"]}) if key else None
            if key and first and idempotency and first["id"] != job.id:
                if (key["fingerprint"], first["model"]) != (idempotency.fingerprint, model):
                    raise IdempotencyKeyReused
                return Accepted(self._job(first), replayed=True)
            return Accepted(recognised(lambda: self._insert(job, idempotency, key), written), replayed=False)

        def written() -> Job | None:
            item = self._table.get({"id": job.id})
            return self._job(item) if item else None

        return contested(attempt, self._sleep)  # other submissions may take this idempotency key meanwhile

    def _insert(self, job: Job, idempotency: Idempotency | None, stale: Item | None) -> Job:
        """`stale`: the item of this idempotency key, where the job it stands for is forgotten."""
        if self._count(JobStatus.QUEUED, self._max_queued) >= self._max_queued:
            raise Overloaded(retry_after=FULL_SECONDS)
        seq = self._table.update({"id": "sequence"}, "ADD #last :one", "", {"one": 1})["last"]
        self._table.write(items.writes(self._table, job, seq, idempotency, stale, keep_seconds=self._keep_seconds))
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
        except ConditionFailed:
            raise JobFinished from None

    def page(self, tenant: str, *, status: JobStatus | None = None, before: int | None = None, limit: int = 20) -> Page:
        which, values = "#tenant = :tenant", dict[str, Value](tenant=tenant)
        if before is not None:
            which, values = f"{which} AND #seq < :before", {**values, "before": before}
        found = self._table.query(which, values, index="tenant", limit=None if status else limit + 1, newest_first=True)
        listed = list(itertools.islice((one for one in found if status in (None, one["status"])), limit + 1))
        stored = (self._table.get({"id": item["id"]}) for item in listed[:limit])
        next_ = listed[limit - 1]["seq"] if len(listed) > limit else None
        return Page([self._job(item) for item in stored if item], next_)

    def ahead(self, job: Job) -> int | None:  # noqa: ARG002
        """SageMaker keeps the queue that these jobs wait in, and does not tell."""
        return None

    def forget(self, job_id: str, *, tenant: str) -> None:
        if not self.get(job_id, tenant=tenant).status.finished:
            raise JobUnfinished
        self._forget(job_id)

    def counts(self) -> dict[JobStatus, int]:
        return {status: self._count(status) for status in JobStatus}

    def queued(self, up_to: int) -> int:
        """How many jobs are queued, with SageMaker all that have not finished; at most `up_to`."""
        return self._count(JobStatus.QUEUED, up_to)

    def purge(self, *, finished_before: float) -> int:
        purged = 0
        for status in (status for status in JobStatus if status.finished):
            for item in list(self._of(status)):
                if item["finished_at"] < finished_before:
                    purged += self._forget(item["id"])
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
                self._table.delete({"id": items.part_id(job_id, number)}, "attribute_exists(#id)")
        except ConditionFailed:
            pass  # the key stands for a newer job already, or the parts went with the table's TTL
        try:
            self._table.delete({"id": job_id}, "attribute_exists(#id)")
        except ConditionFailed:
            return False
        return True

    # ---- what a worker does ---------------------------------------------------------------------------------------

    def claim(self, worker: str, *, models: Collection[str], but_not_of: Collection[str] = ()) -> Lease | None:
        running = {item["id"]: (item["token"], item["beat"]) for item in self._of(JobStatus.RUNNING)}
        silent = {} if but_not_of else self._watch.silent(running)
        for job_id, (token, beat) in silent.items():
            # Compare and set: whoever beat or took over since we looked keeps the job.
            unmoved = "#token = :seen AND #beat = :beat"
            if lease := self._take(job_id, worker, models, unmoved, {"seen": token, "beat": beat}):
                return lease
        queued = []
        for item in self._of(JobStatus.QUEUED):
            queued.append(item["id"])
            others = {f"tenant{number}": tenant for number, tenant in enumerate(but_not_of)}
            when = f"NOT #tenant IN ({', '.join(f':{name}' for name in others)}) AND " if others else ""
            if lease := self._take(item["id"], worker, models, f"{when}#status = :queued", {**_UNFINISHED, **others}):
                return lease
        self._models = {job_id: model for job_id, model in self._models.items() if job_id in {*running, *queued}}
        return None

    def _take(
        self, job_id: str, worker: str, models: Collection[str], when: str, values: Mapping[str, Value]
    ) -> Lease | None:
        """The job, if it still is as `when` says; one that was tried often enough is given up instead."""
        if self._models.get(job_id) not in (None, *models):
            return None
        token = secrets.token_hex(16)
        change = (
            "SET #status = :running, #started_at = :now, #attempts = #attempts + :one, #step = :zero, #steps = :zero, "
            "#worker = :worker, #token = :token, #beat = :zero"
        )
        served = {f"model{number}": model for number, model in enumerate(models)}
        when = f"{when} AND #model IN ({', '.join(f':{name}' for name in served)})"
        given = {**values, **_UNFINISHED, "now": self._wall(), "one": 1, "zero": 0, "most": self._max_attempts}
        given |= {"worker": worker, "token": token, **served}

        def taken() -> Item | None:
            item = self._table.get({"id": job_id})
            return item if item and item.get("token") == token else None

        try:
            claim = functools.partial(
                self._table.update, {"id": job_id}, change, f"{when} AND #attempts < :most", given
            )
            return Lease(self._job(recognised(claim, taken)), token)
        except ConditionFailed:
            pass
        try:
            error = {"error": Poisoned().problem().model_dump_json()}
            self._end(job_id, JobStatus.FAILED, error, f"{when} AND #attempts >= :most", given)
        except ConditionFailed:
            if item := self._table.get({"id": job_id}):
                self._models[job_id] = item["model"]
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
        except ConditionFailed:
            return False
        return True

    # ---- what a service that runs jobs by itself does -------------------------------------------------------------

    def find(self, job_id: str) -> Job:
        item = self._table.get({"id": job_id}) if items.ID.fullmatch(job_id) else None
        if item is None:
            raise JobNotFound
        return self._job(item)

    def settle(self, job_id: str, ended: GenerationResult | Problem) -> bool:
        settled = self._ended(job_id, ended, _IS_UNFINISHED, {})
        if not settled:
            self.find(job_id)
        return settled

    def record_attempts(self, job_id: str, attempts: int, *, was: int) -> bool:
        values = {**_UNFINISHED, "new": attempts, "was": was}
        try:
            unfinished = f"{_IS_UNFINISHED} AND #attempts = :was"
            self._table.update({"id": job_id}, "SET #attempts = :new", unfinished, values)
        except ConditionFailed:
            self.find(job_id)
            return False
        return True

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
        except ConditionFailed:
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
        attributes = {
            "status": status.value,
            "finished_at": now,
            items.EXPIRES: int(now + self._keep_seconds),
            **with_it,
        }
        change = f"SET {', '.join(f'#{name} = :new_{name}' for name in attributes)} REMOVE #token"
        given = {**values, **_UNFINISHED, **{f"new_{name}": value for name, value in attributes.items()}}
        return self._table.update({"id": job_id}, change, when, given)

    def _of(self, status: JobStatus) -> Iterator[Item]:
        return self._table.query("#status = :status", {"status": status.value}, index="status")

    def _count(self, status: JobStatus, up_to: int | None = None) -> int:
        return self._table.count("#status = :status", {"status": status.value}, index="status", up_to=up_to)

    def _job(self, item: Item) -> Job:
        return items.job(self._table, item)
