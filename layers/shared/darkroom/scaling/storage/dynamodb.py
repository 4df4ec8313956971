"""DynamoPolicyStore: policies, their audit and their fence in one DynamoDB table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from darkroom.errors import JobStoreUnavailable, PolicyNotFound, PreconditionFailed
from darkroom.jobs.table import Contended, Item, Refused, Table
from darkroom.scaling.storage import ANYWAY, Change, Condition, Document, Hold, StoredPolicy

# What `create_table` makes of it: `kind` "policy" with the model as `entry`, and `changes:{model}` with the version.
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "kind", "AttributeType": "S"},
        {"AttributeName": "entry", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "entry", "KeyType": "RANGE"}],
    "BillingMode": "PAY_PER_REQUEST",
}
_TRIES, _PAUSE = 8, 0.02  # seconds, doubled each time: racing writers step aside for each other


class DynamoPolicyStore:
    """A PolicyStore in the table that `TABLE` describes. Safe to use from several threads and processes.

    A write and its line in the audit are one transaction, on the condition that the version is still the one that the
    caller's own condition was held against. `wall` (seconds since the epoch) dates changes.
    """

    def __init__(
        self,
        table: str,
        *,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = Table(table)
        self._wall = wall
        self._sleep = sleep

    def close(self) -> None:
        self._table.close()

    def get(self, model: str) -> StoredPolicy | None:
        return _present(self._table.get(_key(model)))

    def all(self) -> list[StoredPolicy]:
        return [_stored(item) for item in self._table.query("#kind = :kind", {"kind": "policy"})]

    def put(self, model: str, document: Document, *, by: str, when: Condition = ANYWAY) -> StoredPolicy:
        return self._change(model, document, by, when)

    def delete(self, model: str, *, by: str, when: Condition = ANYWAY) -> None:
        self._change(model, None, by, when)

    def history(self, model: str) -> list[Change]:
        found = self._table.query("#kind = :kind", {"kind": f"changes:{model}"})
        return [
            Change(model, item["version"], item["at"], item["by"], _json(item.get("old")), _json(item.get("new")))
            for item in found
        ]

    def _change(self, model: str, document: Document | None, by: str, when: Condition) -> StoredPolicy:
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(_PAUSE * 2 ** (attempt - 1))
            item = self._table.get(_key(model))
            before = _present(item)
            if document is None and before is None:
                raise PolicyNotFound
            if not when.holds(before):
                raise PreconditionFailed("The policy is not the one you have seen; get it again.")
            try:
                return self._write(model, document, by, item)
            except (Refused, Contended):  # another writer was faster: hold the condition against what it wrote
                continue
        raise JobStoreUnavailable

    def _write(self, model: str, document: Document | None, by: str, item: Item | None) -> StoredPolicy:
        now, text = self._wall(), None if document is None else json.dumps(document)
        seen = 0 if item is None else item["version"]
        version = seen + 1
        values = {"version": version, "changed_at": now, "changed_by": by, "zero": 0, "seen": seen}
        sets = "#version = :version, #changed_at = :changed_at, #changed_by = :changed_by"
        change = f"SET {sets}, #token = if_not_exists(#token, :zero)"
        if text is None:
            change += " REMOVE #document"
        else:
            change, values = change.replace("SET ", "SET #document = :document, "), values | {"document": text}
        unchanged = "attribute_not_exists(#entry)" if item is None else "#version = :seen"
        old = None if item is None else item.get("document")
        line = {"kind": f"changes:{model}", "entry": f"{version:012d}", "version": version, "at": now, "by": by}
        self._table.write(
            [
                self._table.updating(_key(model), change, unchanged, values),
                self._table.putting(line | {"old": old, "new": text}, "attribute_not_exists(#entry)"),
            ]
        )
        applied = None if item is None else item.get("applied")
        return StoredPolicy(model, version, document, now, by, applied, replaces=_present(item) is not None)

    # ---- what a reconciler does -----------------------------------------------------------------------------------

    def take(self, model: str) -> Hold:
        try:
            taken = self._update(model, "ADD #token :one", "attribute_exists(#entry)", one=1)
        except Refused:
            raise PolicyNotFound from None
        return Hold(model, taken["token"])

    def held(self, hold: Hold) -> bool:
        return self._while_held(hold, "SET #token = :token")

    def applied(self, hold: Hold, fingerprint: str | None) -> bool:
        if fingerprint is None:
            return self._while_held(hold, "REMOVE #applied")
        return self._while_held(hold, "SET #applied = :fingerprint", fingerprint=fingerprint)

    def _while_held(self, hold: Hold, change: str, **values: str) -> bool:
        try:
            self._update(hold.model, change, "#token = :token", token=hold.token, **values)
        except Refused:
            return False
        return True

    def _update(self, model: str, change: str, when: str, **values: str | int) -> Item:
        for attempt in range(_TRIES):
            try:
                return self._table.update(_key(model), change, when, values)
            except Contended:  # somebody stores a new document at this moment
                self._sleep(_PAUSE * 2**attempt)
        raise JobStoreUnavailable


def _key(model: str) -> dict[str, str | int | float | bytes]:
    return {"kind": "policy", "entry": model}


def _stored(item: Item) -> StoredPolicy:
    document = _json(item.get("document"))
    return StoredPolicy(
        item["entry"], item["version"], document, item["changed_at"], item["changed_by"], item.get("applied")
    )


def _present(item: Item | None) -> StoredPolicy | None:
    return None if item is None or "document" not in item else _stored(item)


def _json(text: str | None) -> Document | None:
    document: Document | None = None if text is None else json.loads(text)
    return document
