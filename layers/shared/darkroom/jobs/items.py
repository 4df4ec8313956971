"""How a job lies in DynamoDB: its item, the parts of a large request, and the item of its idempotency key."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from darkroom.contracts import Job
from darkroom.database.dynamodb import Item, Table, Value
from darkroom.jobs.store import Idempotency, job_of

# What `create_table` makes of the jobs' table. Beside the jobs it holds each request's idempotency key (`key:...`), the
# parts of requests that are too large for one item (`part:...`), and the number of the last job (`sequence`).
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "status", "AttributeType": "S"},
        {"AttributeName": "seq", "AttributeType": "N"},
        {"AttributeName": "tenant", "AttributeType": "S"},
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
        },
        {
            "IndexName": "tenant",
            "KeySchema": [
                {"AttributeName": "tenant", "KeyType": "HASH"},
                {"AttributeName": "seq", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status"]},
        },
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
EXPIRES = "expires_at"  # the table's TTL attribute
ID = re.compile(r"[0-9a-f]{32}")
_PART_BYTES = 300_000  # an item has at most 400 KB
_KEY_MARGIN = 7 * 86_400  # an idempotency key is remembered for this much longer than its job was to be


def key_id(tenant: str, idempotency: Idempotency) -> str:
    """Keys are each tenant's own; hashed, because both are the caller's words and may be long."""
    whose = f"{tenant}\n{idempotency.key}"
    return f"key:{hashlib.sha256(whose.encode()).hexdigest()}"


def part_id(job_id: str, number: int) -> str:
    return f"part:{job_id}:{number}"


def writes(
    table: Table, job: Job, seq: int, idempotency: Idempotency | None, stale: Item | None, *, keep_seconds: float
) -> list[Item]:
    """What adds a job to the table, as number `seq` of all; for `Table.write`.

    `stale`: the item of this idempotency key, where the job it stands for is forgotten.
    """
    text = job.readable_request().model_dump_json().encode()
    parts = [text[start : start + _PART_BYTES] for start in range(0, len(text), _PART_BYTES)]
    whole = len(parts) == 1
    item: dict[str, Value | None] = {
        "id": job.id,
        "seq": seq,
        "tenant": job.tenant,
        "model": job.model,
        "status": job.status.value,
        "request": text.decode() if whole else None,
        "parts": None if whole else len(parts),
        "created_at": job.created_at,
        "attempts": 0,
        "step": 0,
        "steps": 0,
        "beat": 0,
        "key": key_id(job.tenant, idempotency) if idempotency else None,
    }
    gone = int(job.created_at + keep_seconds + _KEY_MARGIN)
    puts = [table.putting(item, "attribute_not_exists(#id)")]
    if not whole:
        puts += [
            table.putting({"id": part_id(job.id, number), "part": part, EXPIRES: gone})
            for number, part in enumerate(parts)
        ]
    if idempotency:
        key = {"id": item["key"], "job": job.id, "fingerprint": idempotency.fingerprint, EXPIRES: gone}
        free = "attribute_not_exists(#id)" if stale is None else "attribute_not_exists(#id) OR #job = :stale"
        puts.append(table.putting(key, free, stale="" if stale is None else stale["job"]))
    return puts


def job(table: Table, item: Item) -> Job:
    """The job in an item; the parts of a large request are read from the table. Raises: JobStoreUnavailable."""
    if "request" in item:
        return job_of(item, item["request"])
    parts = [table.get({"id": part_id(item["id"], number)}) for number in range(item["parts"])]
    return job_of(item, b"".join(part["part"] for part in parts if part))
