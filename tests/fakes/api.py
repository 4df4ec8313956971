"""The control plane around real stores in a directory, asked as a server asks it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from api.manifests import Manifests
from api.services import Services
from darkroom.contracts import GeneratedImage, GenerationResult, Job
from darkroom.images.finished import image_key
from darkroom.inference import QueuedInference
from darkroom.jobs.sql import SqlJobStore
from darkroom.scaling.storage.sql import SqlPolicyStore
from darkroom.settings import Settings
from darkroom.storage.directory import DirectoryStore
from tests.fakes import bundle


class Log:
    """Remembers its lines: (event, facts)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))

    error = info


def finish(services: Services, job: Job, image: bytes = b"\x89PNG a picture") -> Job:
    """The job as it is once its images are made and stored, each with these bytes."""
    images = []
    for index in range(job.readable_request().num_images):
        key, digest = image_key(job.id, index, "png"), hashlib.sha256(image).hexdigest()
        services.store.put(key, image)
        facts = {"key": key, "width": 64, "height": 64, "content_type": "image/png", "size": len(image)}
        images.append(GeneratedImage(**facts, sha256=digest, seed=index))
    result = GenerationResult(images=images, seed=1, model="crayon", version="0" * 16, target="fake")
    services.jobs.settle(job.id, result)
    return services.jobs.find(job.id)


async def no_wait(job: Job, _seconds: float) -> Job:
    """A wait that is over at once."""
    return job


@contextmanager
def services(directory: Path, settings: Settings | None = None, **given: Any) -> Iterator[Services]:
    """With a published crayon; `given` replaces what there would be."""
    store = DirectoryStore(directory / "store", public_url="https://images.example", signing_key=b"k" * 32)
    bundle.publish(store, directory)
    url = f"sqlite:///{directory / 'jobs.db'}"
    jobs, policies = SqlJobStore(url), SqlPolicyStore(url)
    parts = {"wait": no_wait, "log": Log(), "manifests": Manifests(store), "inference": QueuedInference(), **given}
    try:
        yield Services(settings or Settings(), store, jobs, policies, **parts)
    finally:
        jobs.close()
        policies.close()


def ask(app: ASGIApp, method: str, path: str, body: Any = None, **given: Any) -> httpx.Response:
    """One request; `body` is JSON where it is no text or bytes, `given` is what httpx takes."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://darkroom.example") as client:
            sent = {"content": body} if isinstance(body, str | bytes) else {"json": body}
            return await client.request(method, path, **(sent if body is not None else {}), **given)

    return asyncio.run(send())
