"""DynamoPolicyStore: policies, their audit and their fence in one DynamoDB table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from darkroom.database.condition import ANYWAY, Condition, Hold
from darkroom.database.dynamodb import ConditionFailed, Item
from darkroom.database.records import Records, Values
from darkroom.errors import PolicyNotFound, PreconditionFailed
from darkroom.scaling.storage.store import Change, Document, StoredPolicy, document_of


class DynamoPolicyStore:
    """A PolicyStore in a table of `database.records.TABLE`. Safe to use from several threads and processes.

    `wall` (seconds since the epoch) dates changes.
    """

    def __init__(
        self, table: str, *, wall: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._records = Records(table, kind="policy", audit="changes", counter="version", wall=wall, sleep=sleep)

    def close(self) -> None:
        self._records.close()

    def get(self, model: str) -> StoredPolicy | None:
        return _present(self._records.get(model))

    def all(self) -> list[StoredPolicy]:
        return [_stored(item) for item in self._records.all()]

    def put(self, model: str, document: Document, *, by: str, when: Condition = ANYWAY) -> StoredPolicy:
        return self._change(model, document, by, when)

    def delete(self, model: str, *, by: str, when: Condition = ANYWAY) -> None:
        self._change(model, None, by, when)

    def history(self, model: str) -> list[Change]:
        return [
            Change(
                model,
                line["version"],
                line["at"],
                line["by"],
                document_of(line.get("old")),
                document_of(line.get("new")),
            )
            for line in self._records.history(model)
        ]

    def _change(self, model: str, document: Document | None, by: str, when: Condition) -> StoredPolicy:
        text = None if document is None else json.dumps(document)
        replaces = False

        def decide(item: Item | None, now: float) -> tuple[Values, Values]:
            nonlocal replaces
            before = _present(item)
            replaces = before is not None
            if document is None and before is None:
                raise PolicyNotFound
            if not when.holds(before.etag if before else None):
                raise PreconditionFailed("The policy is not the one you have seen; get it again.")
            old = None if item is None else item.get("document")
            return {"document": text, "changed_at": now, "changed_by": by}, {"old": old, "new": text}

        return _stored(self._records.change(model, by, decide), replaces=replaces)

    # ---- what a reconciler does -----------------------------------------------------------------------------------

    def take(self, model: str) -> Hold:
        try:
            return self._records.take(model, "attribute_exists(#entry)")
        except ConditionFailed:
            raise PolicyNotFound from None

    def held(self, hold: Hold) -> bool:
        return self._records.held(hold)

    def applied(self, hold: Hold, fingerprint: str | None) -> bool:
        if fingerprint is None:
            return self._records.held(hold, "REMOVE #applied")
        return self._records.held(hold, "SET #applied = :fingerprint", fingerprint=fingerprint)


def _stored(item: Item, *, replaces: bool = False) -> StoredPolicy:
    document, applied = document_of(item.get("document")), item.get("applied")
    return StoredPolicy(
        item["entry"], item["version"], document, item["changed_at"], item["changed_by"], applied, replaces
    )


def _present(item: Item | None) -> StoredPolicy | None:
    return None if item is None or "document" not in item else _stored(item)
