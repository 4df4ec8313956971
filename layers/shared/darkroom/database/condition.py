"""What must hold for a record to be written, and who may carry out what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Versioned(Protocol):
    @property
    def etag(self) -> str: ...


@dataclass(frozen=True)
class Condition:
    """What must hold for a write: `match` lists the versions the caller has seen; None leaves it open.

    `exists` True asks for any record (`If-Match: *`), False for none (`If-None-Match: *`).
    """

    match: frozenset[str] | None = None
    exists: bool | None = None

    def holds(self, stored: Versioned | None) -> bool:
        """Whether the write may go ahead; `stored` is None where there is no record now."""
        if self.exists is not None and self.exists != (stored is not None):
            return False
        return self.match is None or (stored is not None and stored.etag in self.match)


ANYWAY = Condition()


@dataclass(frozen=True)
class Hold:
    """The right to carry out a model's record, until somebody else takes it."""

    model: str
    token: int
