"""A model's pointer, bundles, endpoint and proofs, as `advance` sees and changes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from darkroom.bundles import catalog
from darkroom.errors import EngineIntegrity, ModelNotFound
from darkroom.release.advance import ActionRefused
from darkroom.release.endpoint import Endpoint
from darkroom.release.machine import Action, Prove, Reweigh, Update, WritePointer
from darkroom.release.proof import Proofs
from darkroom.release.state import Phase, Proof, ProofVerdict, Release, Seen
from darkroom.storage import ObjectStore


@dataclass(frozen=True)
class EndpointWorld:
    """The world of one model; `wall` gives seconds since the epoch."""

    model: str
    bundles: ObjectStore
    endpoint: Endpoint
    proofs: Proofs
    wall: Callable[[], float] = time.time

    def see(self, release: Release | None) -> Seen:
        """Raises: ModelNotFound (nothing is published), EngineIntegrity, StorageUnavailable, what boto3 raises."""
        look = self.endpoint.look()
        phase = release.phase if release else None
        return Seen(
            now=self.wall(),
            pointer=catalog.current_version(self.bundles, self.model),
            status=look.status,
            running=look.running,
            coming=look.coming,
            alarms=self.endpoint.ringing() if phase is Phase.SHIFTING else (),
            unfit=self._unfit(release) if release and phase is Phase.PREPARING else "",
            proof=self._proof(release) if release and phase is Phase.PROVING and release.attempt else Proof(),
        )

    def act(self, action: Action) -> None:
        """Raises: NotNow, ActionRefused, StorageUnavailable, what boto3 and sending a request raise."""
        try:
            if isinstance(action, WritePointer):
                catalog.set_current(self.bundles, self.model, action.version)
            elif isinstance(action, Update):
                self.endpoint.update(action.traffic, careful=action.careful)
            elif isinstance(action, Reweigh):
                self.endpoint.reweigh(action.traffic)
            else:
                self.proofs.send(action)
        except (ModelNotFound, EngineIntegrity) as missing:
            raise ActionRefused(missing.detail) from missing

    def _unfit(self, release: Release) -> str:
        try:
            for version in release.goal.versions:
                catalog.load_manifest(self.bundles, self.model, version)
        except (ModelNotFound, EngineIntegrity) as refused:
            return refused.detail
        return ""

    def _proof(self, release: Release) -> Proof:
        try:
            return self.proofs.look(self.model, Prove(release.goal, release.number, release.attempt, release.since))
        except (ModelNotFound, EngineIntegrity) as missing:
            return Proof(ProofVerdict.BAD, missing.detail)
