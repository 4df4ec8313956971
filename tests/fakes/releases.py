"""A release's world in memory: a pointer, bundles that are good or not, an endpoint that takes its time, crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from darkroom.database.condition import Hold
from darkroom.release.machine import Action, Prove, Reweigh, Update, WritePointer
from darkroom.release.state import EndpointStatus, Proof, ProofVerdict, Release, Request, Seen, TrafficSplit
from darkroom.release.storage import StoredRelease


class Crashed(Exception):
    """The process died here."""


@dataclass
class MemoryReleases:
    """A ReleaseStore's part that carrying out needs. `at` is called before and after each write."""

    at: Callable[[str], None] = lambda _where: None
    release: Release | None = None
    request: Request | None = None
    token: int = 0

    def get(self, model: str) -> StoredRelease:
        return StoredRelease(model, self.release, self.request)

    def ask(self, traffic: TrafficSplit) -> None:
        self.request = Request(self.request.number + 1 if self.request else 1, traffic)

    def take(self, model: str) -> Hold:
        self.token += 1
        return Hold(model, self.token)

    def held(self, hold: Hold) -> bool:
        return hold.token == self.token

    def save(self, hold: Hold, release: Release) -> bool:
        self.at("before save")
        if not self.held(hold):
            return False
        # What is stored must survive being stored.
        self.release = Release.from_json(release.to_json())
        self.at("after save")
        return True


@dataclass
class MemoryWorld:
    """`bad` versions draw nothing, `rejected` ones the endpoint goes back from by itself, `unfit` ones have no bundle.

    A change of the endpoint takes `shifting` looks of the clock; a proof takes `proving`.
    """

    pointer: str
    running: TrafficSplit | None
    at: Callable[[str], None] = lambda _where: None
    bad: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    unfit: set[str] = field(default_factory=set)
    now: float = 1_800_000_000.0
    status: EndpointStatus = EndpointStatus.READY
    shifting: float = 300.0
    proving: float = 60.0
    coming: TrafficSplit | None = None
    until: float = 0.0
    proofs: dict[tuple[int, int], tuple[float, TrafficSplit]] = field(default_factory=dict)
    acts: list[Action] = field(default_factory=list)

    def tick(self, seconds: float = 60.0) -> None:
        self.now += seconds
        if self.coming is not None and self.now >= self.until:
            if not self.rejected & set(self.coming.versions):
                self.running = self.coming
            self.coming, self.status = None, EndpointStatus.READY

    def see(self, release: Release | None) -> Seen:
        proof, unfit = Proof(), ""
        if release is not None:
            missing = self.unfit & set(release.goal.versions)
            unfit = "There is no such bundle." if missing else ""
            if release.attempt:
                proof = self._proof(release.number, release.attempt)
        return Seen(self.now, self.pointer, self.status, self.running, self.coming, None, (), unfit, proof)

    def act(self, action: Action) -> None:
        self.at("before act")
        self.acts.append(action)
        if isinstance(action, WritePointer):
            self.pointer = action.version
        elif isinstance(action, Update | Reweigh):
            assert self.status is EndpointStatus.READY, "a change under way is not changed"
            self.coming, self.until, self.status = action.traffic, self.now + self.shifting, EndpointStatus.BUSY
        elif isinstance(action, Prove):
            assert self.running is not None
            self.proofs.setdefault((action.number, action.attempt), (self.now + self.proving, self.running))
        self.at("after act")

    def _proof(self, number: int, attempt: int) -> Proof:
        ready, drawn_by = self.proofs.get((number, attempt), (float("inf"), None))
        if self.now < ready or drawn_by is None:
            return Proof(ProofVerdict.WAITING)
        if self.bad & set(drawn_by.versions):
            return Proof(ProofVerdict.BAD, "It drew nothing.")
        return Proof(ProofVerdict.GOOD)
