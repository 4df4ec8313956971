"""The tables of one store, the version they are at, and the way there from every older version."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select, text, update

from darkroom.errors import JobStoreUnavailable

Statements = tuple[str, ...]  # SQL statements that both SQLite and Postgres take


@dataclass(frozen=True)
class Schema:
    """The tables in `metadata` as they are now; `steps[0]` makes version 2 of version 1, and so on.

    A step is text and not made from `metadata`, which goes on changing after it. `marker` is the table that keeps the
    version, `lock` names the Postgres advisory lock (any number, the same in every process), and `store` the store in
    the refusal. Several schemas may lie in one database.
    """

    metadata: MetaData
    marker: str
    steps: tuple[Statements, ...]
    lock: int
    store: str

    @property
    def version(self) -> int:
        return 1 + len(self.steps)

    def bring_up_to_date(self, connection: Connection) -> None:
        """Make the tables, or take the steps that are missing, once, even when several processes start together.

        Call it inside a write transaction: it happens as a whole or not at all. Raises: JobStoreUnavailable, when the
        tables are of a newer version.
        """
        if connection.dialect.name == "postgresql":  # SQLite's write transaction is a lock already
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self.lock})
        marker = Table(self.marker, MetaData(), Column("version", Integer, nullable=False))
        marker.create(connection, checkfirst=True)
        version = connection.execute(select(marker.c.version)).scalar()
        if version is None:
            self.metadata.create_all(connection, checkfirst=True)
            connection.execute(insert(marker).values(version=self.version))
        elif version > self.version:
            raise JobStoreUnavailable(f"The {self.store} was made by a newer version of Darkroom; upgrade this one.")
        elif version < self.version:
            for statement in (statement for step in self.steps[version - 1 :] for statement in step):
                connection.exec_driver_sql(statement)
            connection.execute(update(marker).values(version=self.version))
