"""Where releases are kept: one for each model, what was asked of it, and a fence for who carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from darkroom.database.condition import ANYWAY, Condition, Hold
from darkroom.release.state import Release, Request, TrafficSplit


@dataclass(frozen=True)
class StoredRelease:
    """What is known of a model: `release` once its endpoint has been looked at, `request` once somebody asked."""

    model: str
    release: Release | None = None
    request: Request | None = None

    @property
    def etag(self) -> str:
        """The number of the newest request, as HTTP has it; progress does not change it."""
        return f'"{self.request.number if self.request else 0}"'


@dataclass(frozen=True)
class LoggedRequest:
    """One line of the audit: who asked for what, and when (seconds since the epoch)."""

    number: int
    at: float
    by: str
    traffic: TrafficSplit


class ReleaseStore(Protocol):
    """Every method raises JobStoreUnavailable where the database does not answer."""

    def get(self, model: str) -> StoredRelease | None:
        """None where nobody has ever released or asked."""

    def ask(self, model: str, traffic: TrafficSplit, *, by: str, when: Condition = ANYWAY) -> StoredRelease:
        """Ask for this traffic; it replaces what was asked before. Raises: PreconditionFailed, and nothing changed."""

    def history(self, model: str) -> list[LoggedRequest]:
        """What was asked, oldest first."""

    def take(self, model: str) -> Hold:
        """Become the one who carries out the release; whoever was it before can write no more."""

    def held(self, hold: Hold) -> bool:
        """Whether nobody has taken over since: a conditional write, so that two can never both be told yes."""

    def save(self, hold: Hold, release: Release) -> bool:
        """Remember how far it has come; False (and nothing written) where the hold is lost."""

    def close(self) -> None:
        """Let go of the connections; they are opened again if the store is used again."""
