"""SqlPolicyStore: policies beside the jobs, in SQLite (one machine) or Postgres."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from darkroom.database.condition import ANYWAY, Condition, Hold
from darkroom.database.sql import Database
from darkroom.errors import JobStoreUnavailable, PolicyNotFound, PreconditionFailed
from darkroom.retry import Retry
from darkroom.scaling.storage.schema import SCHEMA, changes, policies
from darkroom.scaling.storage.store import Change, Document, StoredPolicy, document_of

_RACES = Retry(tries=2)  # Postgres only: another writer made this model's row since we looked


class SqlPolicyStore:
    """A PolicyStore in two tables, with what `database.sql.Database` promises.

    A write and its line in the audit are one transaction. `wall` (seconds since the epoch) dates changes. Opening it
    raises what `Database` does.
    """

    def __init__(self, url: str, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._database = Database(url, SCHEMA)

    def close(self) -> None:
        self._database.close()

    def get(self, model: str) -> StoredPolicy | None:
        with self._database.read() as connection:
            return _present(connection.execute(select(policies).where(policies.c.model == model)).one_or_none())

    def all(self) -> list[StoredPolicy]:
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(select(policies).order_by(policies.c.model))]

    def put(self, model: str, document: Document, *, by: str, when: Condition = ANYWAY) -> StoredPolicy:
        return self._change(model, document, by, when)

    def delete(self, model: str, *, by: str, when: Condition = ANYWAY) -> None:
        self._change(model, None, by, when)

    def history(self, model: str) -> list[Change]:
        with self._database.read() as connection:
            rows = connection.execute(select(changes).where(changes.c.model == model).order_by(changes.c.seq)).all()
        return [
            Change(row.model, row.version, row.at, row.by, document_of(row.old), document_of(row.new)) for row in rows
        ]

    def _change(self, model: str, document: Document | None, by: str, when: Condition) -> StoredPolicy:
        nonce = secrets.token_hex(16)
        try:
            return _RACES.call(lambda: self._write(model, document, by, when, nonce), on=IntegrityError)
        except JobStoreUnavailable:
            line = select(changes.c.version, changes.c.at, changes.c.old, policies.c.applied).join_from(
                changes, policies, policies.c.model == changes.c.model
            )
            with self._database.read() as connection:  # a server commits even where its answer is lost
                written = connection.execute(line.where(changes.c.nonce == nonce)).one_or_none()
            if written is None:
                raise
            version, at, old, applied = written
            return StoredPolicy(model, version, document, at, by, applied, replaces=old is not None)

    def _write(self, model: str, document: Document | None, by: str, when: Condition, nonce: str) -> StoredPolicy:
        with self._database.write() as connection:
            row = connection.execute(select(policies).where(policies.c.model == model).with_for_update()).one_or_none()
            before = _present(row)
            if document is None and before is None:
                raise PolicyNotFound
            if not when.holds(before.etag if before else None):
                raise PreconditionFailed("The policy is not the one you have seen; get it again.")
            now, text = self._wall(), None if document is None else json.dumps(document)
            values = {"document": text, "changed_at": now, "changed_by": by}
            version = 1 if row is None else row.version + 1
            if row is None:
                connection.execute(insert(policies).values(model=model, version=version, token=0, **values))
            else:
                connection.execute(update(policies).where(policies.c.model == model).values(version=version, **values))
            line = {"model": model, "version": version, "at": now, "by": by, "nonce": nonce}
            connection.execute(insert(changes).values(**line, old=None if row is None else row.document, new=text))
            applied = None if row is None else row.applied
            return StoredPolicy(model, version, document, now, by, applied, replaces=before is not None)

    # ---- what a reconciler does -----------------------------------------------------------------------------------

    def take(self, model: str) -> Hold:
        next_one = policies.c.token + 1
        with self._database.write() as connection:
            taken = update(policies).where(policies.c.model == model).values(token=next_one).returning(policies.c.token)
            token = connection.execute(taken).scalar_one_or_none()
        if token is None:
            raise PolicyNotFound
        return Hold(model, token)

    def held(self, hold: Hold) -> bool:
        return self._while_held(hold, {"token": hold.token})

    def applied(self, hold: Hold, fingerprint: str | None) -> bool:
        return self._while_held(hold, {"applied": fingerprint})

    def _while_held(self, hold: Hold, values: dict[str, Any]) -> bool:
        newest = (policies.c.model == hold.model, policies.c.token == hold.token)
        with self._database.write() as connection:
            return connection.execute(update(policies).where(*newest).values(values)).rowcount == 1


def _stored(row: Row[Any]) -> StoredPolicy:
    document = document_of(row.document)
    return StoredPolicy(row.model, row.version, document, row.changed_at, row.changed_by, row.applied)


def _present(row: Row[Any] | None) -> StoredPolicy | None:
    return None if row is None or row.document is None else _stored(row)
