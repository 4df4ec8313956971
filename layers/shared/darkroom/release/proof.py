"""Proof that a version serves: an image is asked of it through the endpoint, as a caller would, and looked at."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from darkroom.bundles import catalog
from darkroom.contracts import GenerationRequest, GenerationResult, Job
from darkroom.endpoints import Endpoints
from darkroom.errors import DarkroomError, ObjectNotFound, RuntimeUnavailable
from darkroom.inference.disposition import Disposition, disposition
from darkroom.inference.sagemaker import RuntimeClient, SageMakerAsync, invocation
from darkroom.inference.spool import JSON, Spool, read_result
from darkroom.release.fleet import BESIDE, MAIN
from darkroom.release.machine import Prove
from darkroom.release.state import Proof, ProofVerdict
from darkroom.resolving import resolve
from darkroom.storage import ObjectStore

TENANT = "release"
_PROMPT = "a small boat on a calm lake"
_INVOKE_SECONDS = 55.0  # SageMaker cuts at 60


class Proofs(Protocol):
    """Asks for images and looks at them."""

    def send(self, prove: Prove) -> None:
        """Ask for the images. Raises: DarkroomError."""

    def look(self, model: str, prove: Prove) -> Proof:
        """What has become of them. Raises: StorageUnavailable."""


@dataclass(frozen=True)
class Judge:
    """Knows what to ask and what a good answer is; `wall` gives seconds since the epoch."""

    bundles: ObjectStore
    images: ObjectStore
    wall: Callable[[], float] = time.time

    def job(self, model: str, version: str, prove: Prove) -> Job:
        """An ordinary request with the version's own defaults; the same job for the same attempt."""
        manifest = catalog.load_manifest(self.bundles, model, version)
        request = resolve(GenerationRequest(prompt=_PROMPT, seed=0, cache="off"), manifest)
        identity = f"{model} {version} {prove.number} {prove.attempt} {prove.since}"
        job_id = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return Job(id=job_id, tenant=TENANT, model=model, request=request, created_at=self.wall())

    def result(self, version: str, result: GenerationResult) -> Proof:
        """Whether this version made it, and every byte of its images is where it says."""
        if result.version != version:
            return Proof(ProofVerdict.BAD, f"Version {result.version} answered instead of {version}.")
        if not result.images:
            return Proof(ProofVerdict.BAD, f"Version {version} answered without an image.")
        for image in result.images:
            try:
                digest = hashlib.sha256(self.images.get(image.key)).hexdigest()
            except ObjectNotFound:
                return Proof(ProofVerdict.BAD, f"The image that version {version} made is not in the store.")
            if digest != image.sha256:
                return Proof(ProofVerdict.BAD, f"The image that version {version} made is damaged in the store.")
        return Proof(ProofVerdict.GOOD)

    def failure(self, version: str, error: DarkroomError, *, was_sent: bool) -> Proof:
        """What a failed attempt says: try again, look again later, or give up."""
        why = f"Version {version} made no image: {error.detail.removesuffix('.')}."
        decided = disposition(error)
        if decided is Disposition.FAIL:
            return Proof(ProofVerdict.BAD, why)
        untried = decided is Disposition.REQUEUE and not was_sent
        return Proof(ProofVerdict.WAITING if untried else ProofVerdict.AGAIN, why)


@dataclass(frozen=True)
class AsyncProofs:
    """Through an asynchronous endpoint, which has one version at a time; the answer is looked for in S3."""

    model: str
    judge: Judge
    inference: SageMakerAsync
    spool: Spool

    def send(self, prove: Prove) -> None:
        job = self.judge.job(self.model, prove.traffic.version, prove)
        self.inference.send(job, attempt=prove.attempt)

    def look(self, model: str, prove: Prove) -> Proof:
        version = prove.traffic.version
        job = self.judge.job(model, version, prove)
        try:
            return self.judge.result(version, self.spool.result(job.id, attempt=prove.attempt))
        except ObjectNotFound:
            failed = self.spool.failed(job.id, attempt=prove.attempt)
        except RuntimeUnavailable as unreadable:
            failed = unreadable
        return Proof(ProofVerdict.WAITING) if failed is None else self.judge.failure(version, failed, was_sent=True)


class RealTimeProofs:
    """Through a real-time endpoint: looking is asking, of each variant where there are two."""

    def __init__(self, endpoints: Endpoints, judge: Judge) -> None:
        self._endpoints = endpoints
        self._judge = judge
        self._client = RuntimeClient(None, read_seconds=_INVOKE_SECONDS + 5, attempts=1, late=RuntimeUnavailable)

    def send(self, prove: Prove) -> None:
        pass

    def look(self, model: str, prove: Prove) -> Proof:
        for variant, version in zip((MAIN, BESIDE), prove.traffic.versions, strict=False):
            proof = self._ask(model, version, prove, variant)
            if proof.verdict is not ProofVerdict.GOOD:
                return proof
        return Proof(ProofVerdict.GOOD)

    def _ask(self, model: str, version: str, prove: Prove, variant: str) -> Proof:
        job = self._judge.job(model, version, prove)
        try:
            answer = self._client.call(
                "invoke_endpoint",
                EndpointName=self._endpoints.of(model),
                TargetVariant=variant,
                ContentType=JSON,
                Accept=JSON,
                InferenceId=job.id,
                Body=invocation(job, _INVOKE_SECONDS),
            )
            return self._judge.result(version, read_result(answer["Body"]))
        except DarkroomError as error:
            return self._judge.failure(version, error, was_sent=False)
