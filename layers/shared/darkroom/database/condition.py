"""What must hold for a record to be written, and who may carry out what it says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """What must hold for a write: `match` lists the versions the caller has seen; None leaves it open.

    `exists` True asks for any record (`If-Match: *`), False for none (`If-None-Match: *`).
    """

    match: frozenset[str] | None = None
    exists: bool | None = None

    def holds(self, etag: str | None) -> bool:
        """Whether the write may go ahead; `etag` is the record's now, None where there is none."""
        return self.exists in (None, etag is not None) and (self.match is None or etag in self.match)


ANYWAY = Condition()


@dataclass(frozen=True)
class Hold:
    """The right to carry out a model's record, until somebody else takes it."""

    model: str
    token: int
