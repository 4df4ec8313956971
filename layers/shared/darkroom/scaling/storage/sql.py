"""SqlPolicyStore: policies beside the jobs, in SQLite (one machine) or Postgres."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from darkroom.errors import PolicyNotFound, PreconditionFailed
from darkroom.jobs.database import answering, open_engine
from darkroom.scaling.storage import ANYWAY, Change, Condition, Document, Hold, StoredPolicy, schema
from darkroom.scaling.storage.schema import changes, policies


class SqlPolicyStore:
    """A PolicyStore in two tables. Safe to use from several threads, and from several processes on one database.

    A write and its line in the audit are one transaction. `wall` (seconds since the epoch) dates changes.
    Raises JobStoreUnavailable when the database cannot be opened or is of a newer version; ValueError as `open_jobs`.
    """

    def __init__(self, url: str, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._engine = open_engine(url)
        self._reading = self._engine.execution_options(sqlite_begin="DEFERRED")
        with self._write() as connection:
            schema.create(connection)

    def close(self) -> None:
        self._engine.dispose()

    def get(self, model: str) -> StoredPolicy | None:
        with self._read() as connection:
            return _present(connection.execute(select(policies).where(policies.c.model == model)).one_or_none())

    def all(self) -> list[StoredPolicy]:
        with self._read() as connection:
            return [_stored(row) for row in connection.execute(select(policies).order_by(policies.c.model))]

    def put(self, model: str, document: Document, *, by: str, when: Condition = ANYWAY) -> StoredPolicy:
        try:
            return self._change(model, document, by, when)
        except IntegrityError:  # Postgres only: another writer made this model's row since we looked
            return self._change(model, document, by, when)

    def delete(self, model: str, *, by: str, when: Condition = ANYWAY) -> None:
        self._change(model, None, by, when)

    def history(self, model: str) -> list[Change]:
        with self._read() as connection:
            rows = connection.execute(select(changes).where(changes.c.model == model).order_by(changes.c.seq)).all()
        return [Change(row.model, row.version, row.at, row.by, _json(row.old), _json(row.new)) for row in rows]

    def _change(self, model: str, document: Document | None, by: str, when: Condition) -> StoredPolicy:
        with self._write() as connection:
            row = connection.execute(select(policies).where(policies.c.model == model).with_for_update()).one_or_none()
            before = _present(row)
            if document is None and before is None:
                raise PolicyNotFound
            if not when.holds(before):
                raise PreconditionFailed("The policy is not the one you have seen; get it again.")
            now, text = self._wall(), None if document is None else json.dumps(document)
            values = {"document": text, "changed_at": now, "changed_by": by}
            version = 1 if row is None else row.version + 1
            if row is None:
                connection.execute(insert(policies).values(model=model, version=version, token=0, **values))
            else:
                connection.execute(update(policies).where(policies.c.model == model).values(version=version, **values))
            old = None if row is None else row.document
            connection.execute(insert(changes).values(model=model, version=version, at=now, by=by, old=old, new=text))
            applied = None if row is None else row.applied
            return StoredPolicy(model, version, document, now, by, applied, replaces=before is not None)

    # ---- what a reconciler does -----------------------------------------------------------------------------------

    def take(self, model: str) -> Hold:
        next_one = policies.c.token + 1
        with self._write() as connection:
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
        with self._write() as connection:
            return connection.execute(update(policies).where(*newest).values(values)).rowcount == 1

    # ---- the database ---------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with answering(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with answering(), self._reading.begin() as connection:
            yield connection


def _stored(row: Row[Any]) -> StoredPolicy:
    document = _json(row.document)
    return StoredPolicy(row.model, row.version, document, row.changed_at, row.changed_by, row.applied)


def _present(row: Row[Any] | None) -> StoredPolicy | None:
    return None if row is None or row.document is None else _stored(row)


def _json(text: str | None) -> Document | None:
    document: Document | None = None if text is None else json.loads(text)
    return document
