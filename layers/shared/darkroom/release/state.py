"""What is known of a model's release, and what is seen of its endpoint: plain values that `machine` decides on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

UNPINNED = ""  # a version that a container takes from the pointer when it starts (docs/decisions/026)
MOST_EARLIER = 10  # versions that can be gone back to, one after the other


@dataclass(frozen=True)
class TrafficSplit:
    """Which versions get the requests: all go to `version`, or `percent` of them (1 to 99) to `beside`."""

    version: str
    beside: str | None = None
    percent: int = 0

    @property
    def versions(self) -> tuple[str, ...]:
        return (self.version,) if self.beside is None else (self.version, self.beside)

    def __str__(self) -> str:
        return self.version if self.beside is None else f"{self.version} with {self.percent} % to {self.beside}"


class Phase(StrEnum):
    """How far a release has come."""

    SETTLED = "settled"  # the goal runs, and was proven
    PREPARING = "preparing"  # the endpoint is to be told
    SHIFTING = "shifting"  # the endpoint moves traffic
    PROVING = "proving"  # the goal runs; an image is asked of it
    STUCK = "stuck"  # neither the goal nor what ran before could be brought about: somebody must look


@dataclass(frozen=True)
class Release:
    """Everything that outlives a crash. Times are in seconds since the epoch.

    `goal` is what runs or is to run; `proven` is what ran last and was found good, where a failure goes back to;
    `earlier` are the versions before it, newest last, where a rollback goes to. `pointer` is the version that
    current.json named when it was last read or written here: another one there has been published since. `number`
    counts goals, so that each is proven anew; `attempt` counts its proofs. `back`: the goal ran before. `why` is the
    last failure, in a sentence, and `failed` what it was of. `answered` is the newest request that was taken up.
    """

    goal: TrafficSplit
    proven: TrafficSplit
    pointer: str
    since: float
    phase: Phase = Phase.SETTLED
    earlier: tuple[str, ...] = ()
    number: int = 0
    attempt: int = 0
    back: bool = False
    why: str = ""
    failed: TrafficSplit | None = None
    answered: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Release:
        """Raises: ValueError, KeyError or TypeError, where another release wrote it or it is damaged."""
        fields: dict[str, Any] = json.loads(text)
        traffic = {name: _traffic(fields[name]) for name in ("goal", "proven", "failed")}
        return Release(**{**fields, **traffic, "phase": Phase(fields["phase"]), "earlier": tuple(fields["earlier"])})

    @property
    def rollback(self) -> TrafficSplit | None:
        """Where a rollback leads to: what ran before a release under way, else the version before; None: nowhere."""
        if self.goal != self.proven:
            return self.goal if self.back else self.proven
        return TrafficSplit(self.earlier[-1]) if self.earlier else None


@dataclass(frozen=True)
class Request:
    """What somebody asked for over the API; `number` grows with each."""

    number: int
    traffic: TrafficSplit


class EndpointStatus(StrEnum):
    """What an endpoint is up to."""

    READY = "ready"  # it serves and can be told to change
    BUSY = "busy"  # it changes
    BROKEN = "broken"  # it can only be deleted
    ABSENT = "absent"


class ProofVerdict(StrEnum):
    """What became of a proof."""

    UNSENT = "unsent"
    WAITING = "waiting"
    GOOD = "good"
    BAD = "bad"
    AGAIN = "again"  # it failed for a reason that another attempt may not have


@dataclass(frozen=True)
class Proof:
    verdict: ProofVerdict = ProofVerdict.UNSENT
    why: str = ""


@dataclass(frozen=True)
class Seen:
    """The world at `now`. `running` is what the endpoint serves and `coming` what it is changing to; None where it is
    nothing of ours, or several things. `alarms` are those of the rollback alarms that ring.
    `unfit` says why a version of the goal cannot be served at all."""

    now: float
    pointer: str
    status: EndpointStatus
    running: TrafficSplit | None = None
    coming: TrafficSplit | None = None
    request: Request | None = None
    alarms: tuple[str, ...] = ()
    unfit: str = ""
    proof: Proof = Proof()


def _traffic(fields: Mapping[str, Any] | None) -> Any:
    return None if fields is None else TrafficSplit(**fields)
