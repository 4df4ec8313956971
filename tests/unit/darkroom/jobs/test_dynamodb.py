"""What is particular to the DynamoDB job store: pages, large requests, expiry, and a table that does not answer."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError

from darkroom.contracts import GenerationRequest, GenerationResult, JobStatus, Progress
from darkroom.errors import JobNotFound, JobStoreUnavailable
from darkroom.jobs import Idempotency, open_jobs
from darkroom.jobs.dynamodb import DynamoJobStore
from darkroom.jobs.items import EXPIRES

MODELS = ("crayon",)
REQUEST = GenerationRequest(prompt="a cat", seed=7)
RESULT = GenerationResult(images=[], seed=7, model="crayon", version="0" * 16, target="onnx-cpu")
DAY = 86_400


@pytest.fixture
def store(jobs_table: str) -> DynamoJobStore:
    return DynamoJobStore(jobs_table, keep_seconds=30 * DAY, wall=lambda: 1_800_000_000.5)


def submit(store: DynamoJobStore, key: str | None = None) -> str:
    idempotency = Idempotency(key, "f") if key else None
    return store.create("crayon", REQUEST, tenant="one", idempotency=idempotency).job.id


def items(table: str) -> dict[str, dict[str, dict[str, str]]]:
    return {item["id"]["S"]: item for item in boto3.client("dynamodb").scan(TableName=table)["Items"]}


def test_the_url_names_the_table(jobs_table: str) -> None:
    store = open_jobs(f"dynamodb://{jobs_table}", keep_seconds=DAY)
    job = store.create("crayon", REQUEST, tenant="one", idempotency=None).job
    assert store.cancel(job.id, tenant="one").finished_at
    ended = items(jobs_table)[job.id]
    assert int(ended[EXPIRES]["N"]) - int(float(ended["finished_at"]["N"])) == DAY
    store.close()
    assert store.get(job.id, tenant="one").status is JobStatus.CANCELLED  # opens again


def test_only_what_has_ended_expires(store: DynamoJobStore, jobs_table: str) -> None:
    waiting, ended = submit(store), submit(store, "k")
    assert store.settle(ended, RESULT)
    found = items(jobs_table)
    assert EXPIRES not in found[waiting]
    assert int(found[ended][EXPIRES]["N"]) == 1_800_000_000 + 30 * DAY
    (key,) = [item for name, item in found.items() if name.startswith("key:")]
    assert int(key[EXPIRES]["N"]) > int(found[ended][EXPIRES]["N"])  # a job never loses its key while it is there


def test_a_key_whose_job_expired_is_free(store: DynamoJobStore, jobs_table: str) -> None:
    first = submit(store, "k")
    boto3.client("dynamodb").delete_item(TableName=jobs_table, Key={"id": {"S": first}})  # as the TTL does
    again = store.create("crayon", REQUEST, tenant="one", idempotency=Idempotency("k", "other"))
    assert not again.replayed
    assert store.create("crayon", REQUEST, tenant="one", idempotency=Idempotency("k", "other")).job == again.job


def test_a_large_request_is_kept_in_parts(
    store: DynamoJobStore, jobs_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.jobs.items._PART_BYTES", 1001)  # splits a character in two
    large = REQUEST.model_copy(update={"prompt": "é" * 5000})
    idempotency = Idempotency("k", "f")
    job = store.create("crayon", large, tenant="one", idempotency=idempotency).job
    parts = [item for name, item in items(jobs_table).items() if name.startswith("part:")]
    assert len(parts) > 9
    assert all(EXPIRES in part for part in parts)
    assert store.get(job.id, tenant="one").request == large
    assert store.create("crayon", large, tenant="one", idempotency=idempotency).replayed
    with pytest.raises(JobNotFound):
        store.find(f"part:{job.id}:0")

    assert store.settle(job.id, RESULT)
    assert store.purge(finished_before=1_800_000_001.0) == 1
    assert list(items(jobs_table)) == ["sequence"]


def test_queues_longer_than_a_page_are_read_whole(store: DynamoJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = [submit(store) for _ in range(7)]
    pages = []
    client, query = store._table._client, store._table._client.query

    def in_pages_of_three(**asked: object) -> object:
        pages.append(asked.get("ExclusiveStartKey"))
        return query(**{"Limit": 3, **asked})

    monkeypatch.setattr(client, "query", in_pages_of_three)
    assert store.counts()[JobStatus.QUEUED] == 7
    assert sum(start is not None for start in pages) == 2
    assert {job.id for job in store.overdue(accepted_before=2e9)} == set(submitted)
    assert [lease.job.id for _ in submitted if (lease := store.claim("w", models=MODELS))] == submitted


def test_a_write_that_times_out_every_time_but_was_made_is_found(
    store: DynamoJobStore, jobs_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, put_item = store._table._client, store._table._client.put_item

    def silent(**arguments: object) -> None:
        put_item(**arguments)
        raise ReadTimeoutError(endpoint_url="https://dynamodb")

    monkeypatch.setattr(client, "put_item", silent)
    job = submit(store)
    assert set(items(jobs_table)) == {job, "sequence"}
    monkeypatch.setattr(client, "put_item", lambda **_: silent(Item={}))
    with pytest.raises(JobStoreUnavailable):
        submit(store)


def test_a_claim_that_botocore_made_twice_is_a_lease(store: DynamoJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(store)
    update = store._table._client.update_item

    def again(**arguments: Any) -> Any:  # the first answer was lost, and the condition holds no more
        update(**arguments)
        return update(**arguments)

    monkeypatch.setattr(store._table._client, "update_item", again)
    lease = store.claim("w", models=["crayon"])
    assert lease
    assert lease.job.id == job
    assert lease.job.attempts == 1
    monkeypatch.undo()
    assert store.beat(lease, Progress(step=1, steps=2))


def test_who_serves_another_model_does_not_write_to_a_job_again_and_again(
    store: DynamoJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, client = submit(store), store._table._client
    assert store.claim("w", models={"other"}) is None
    with monkeypatch.context() as unwritable:
        unwritable.delattr(type(client), "update_item")
        assert store.claim("w", models={"other"}) is None
    lease = store.claim("w", models={"other", "crayon"})
    assert lease
    assert lease.job.id == waiting


def test_a_table_that_is_not_there_is_unavailable(jobs_table: str) -> None:
    store = DynamoJobStore("elsewhere")
    with pytest.raises(JobStoreUnavailable):
        store.counts()
    with pytest.raises(JobStoreUnavailable):
        store.create("crayon", REQUEST, tenant="one", idempotency=None)


def test_a_service_that_does_not_answer_is_unavailable(jobs_table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        store = DynamoJobStore(jobs_table)
        with pytest.raises(JobStoreUnavailable):
            store.get("0" * 32, tenant="one")


def test_opening_it_loads_neither_boto3_nor_sqlalchemy() -> None:
    code = (
        "import sys; from darkroom.jobs import open_jobs; from darkroom.scaling.storage import open_policies;"
        "open_jobs('dynamodb://jobs'), open_policies('dynamodb://policies');"
        "print(sorted({'boto3', 'botocore', 'sqlalchemy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == "[]", found.stderr
