"""Named records of one kind in a DynamoDB table: conditional changes with an audit, and a fence for each."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from darkroom.database.condition import Hold
from darkroom.database.dynamodb import ConditionFailed, Contended, Item, Table, Value, contested, recognised

# What `create_table` makes of it: `kind` (such as "policy") with the record's name as `entry`; the lines of its audit
# lie under a kind of their own (such as "changes:crayon") with the number of the change.
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "kind", "AttributeType": "S"},
        {"AttributeName": "entry", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "entry", "KeyType": "RANGE"}],
    "BillingMode": "PAY_PER_REQUEST",
}
Values = Mapping[str, Value | None]


class Records:
    """The records of `kind`, whose audit is `audit:{name}` and whose changes are numbered by the attribute `counter`.

    Safe to use from several threads and processes. Who carries a record out and who changes it write attributes of
    their own, so neither overwrites the other. `wall` (seconds since the epoch) dates changes. Every method raises
    JobStoreUnavailable where the table does not answer, or where other writers are always faster.
    """

    def __init__(
        self,
        table: str,
        *,
        kind: str,
        audit: str,
        counter: str,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = Table(table)
        self._kind = kind
        self._audit = audit
        self._counter = counter
        self._wall = wall
        self._sleep = sleep

    def close(self) -> None:
        """Let go of the connections; they are opened again if the records are used again."""
        self._table.close()

    def get(self, name: str) -> Item | None:
        return self._table.get(self._key(name))

    def all(self) -> list[Item]:
        """Every record, by name."""
        return list(self._table.query("#kind = :kind", {"kind": self._kind}))

    def history(self, name: str) -> list[Item]:
        """The lines of the audit, oldest first."""
        return list(self._table.query("#kind = :kind", {"kind": f"{self._audit}:{name}"}))

    def change(self, name: str, by: str, decide: Callable[[Item | None, float], tuple[Values, Values]]) -> Item:
        """Change a record and add a line to its audit, as one; the record as it is then.

        `decide` gets the record and the time, and answers what to set in the record (None removes) and what the line
        says beside its number, `at` and `by`. It is asked again where another writer was faster; what it raises passes.
        """
        nonce = secrets.token_hex(16)

        def attempt() -> Item:
            item, now = self.get(name), self._wall()
            values, line = decide(item, now)
            seen = 0 if item is None else item.get(self._counter, 0)
            number = {self._counter: seen + 1}
            merged = {**(item or {}), **self._key(name), **values, **number}
            changed = {attribute: value for attribute, value in merged.items() if value is not None}
            entry: dict[str, Value] = {"kind": f"{self._audit}:{name}", "entry": f"{seen + 1:012d}"}
            writes = [
                self._updating(name, {**values, **number}, seen),
                self._table.putting(
                    {**entry, **number, "at": now, "by": by, **line, "nonce": nonce}, "attribute_not_exists(#entry)"
                ),
            ]

            def write() -> Item:
                self._table.write(writes)
                return changed

            def written() -> Item | None:
                return changed if (self._table.get(entry) or {}).get("nonce") == nonce else None

            return recognised(write, written)

        return contested(attempt, self._sleep)

    def _updating(self, name: str, values: Values, seen: int) -> Item:
        given = {attribute: value for attribute, value in values.items() if value is not None}
        removed = [f"#{attribute}" for attribute, value in values.items() if value is None]
        change = f"SET {', '.join(f'#{attribute} = :{attribute}' for attribute in given)}"
        change += f" REMOVE {', '.join(removed)}" if removed else ""
        unchanged = f"#{self._counter} = :seen" if seen else f"attribute_not_exists(#{self._counter})"
        return self._table.updating(self._key(name), change, unchanged, {**given, "seen": seen})

    # ---- the fence ------------------------------------------------------------------------------------------------

    def take(self, name: str, when: str = "") -> Hold:
        """Become the one who carries the record out. Raises: ConditionFailed, where `when` does not hold."""
        return Hold(name, self._update(name, "ADD #token :one", when, one=1)["token"])

    def held(self, hold: Hold, change: str = "SET #token = :token", **values: Value) -> bool:
        """Make this change under the hold; False (and nothing written) where somebody else has taken it."""
        try:
            self._update(hold.model, change, "#token = :token", token=hold.token, **values)
        except ConditionFailed:
            return False
        return True

    def _update(self, name: str, change: str, when: str, **values: Value) -> Item:
        return contested(lambda: self._table.update(self._key(name), change, when, values), self._sleep, on=Contended)

    def _key(self, name: str) -> dict[str, Value]:
        return {"kind": self._kind, "entry": name}
