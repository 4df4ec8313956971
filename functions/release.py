"""A bundle was published, or a minute has passed: each model's endpoint is brought to run what it should."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from api import services
from darkroom.endpoints import Endpoints
from darkroom.errors import ModelNotFound
from darkroom.release import open_releases
from darkroom.release.advance import Overtaken, World, advance
from darkroom.release.endpoint import Endpoint
from darkroom.release.machine import Transition
from darkroom.release.proof import AsyncProofs, Judge, Proofs, RealTimeProofs
from darkroom.release.state import Phase, Release
from darkroom.release.storage import ReleaseStore
from darkroom.release.world import EndpointWorld
from darkroom.settings import Settings, SettingsError
from darkroom.storage import open_store
from functions.observability import count, flush, logger, traced

Summary = dict[str, Any]


@traced
def lambda_handler(_event: object, _context: object) -> dict[str, Summary]:
    """Bring every release as far as it comes: model -> its phase, goal and the reason of the last failure.

    Whatever the event is: what to do is read off the pointer, the endpoint and the store. One model's failure does not
    keep the others from being looked at. Raises: RuntimeError in the end where a model failed.
    """
    settings = Settings.read()
    store = open_releases(settings.policies_store)
    if store is None:
        raise SettingsError("DARKROOM_POLICIES_URL: releases need a DynamoDB table.")
    try:
        done = released(store, worlds(settings))
    finally:
        store.close()
        flush()
    failed = [model for model, summary in done.items() if summary["phase"] == "failed"]
    if failed:
        raise RuntimeError(f"these models' releases did not go on: {', '.join(failed)}")
    return done


def released(store: ReleaseStore, by_model: Mapping[str, World]) -> dict[str, Summary]:
    """Advance each model's release; `failed` and `overtaken` stand for a phase where it could not be."""
    done: dict[str, Summary] = {}
    for model, world in by_model.items():
        try:
            release = advance(model, store, world, functools.partial(_log, model))
            done[model] = _summary(release) if release else {"phase": "absent"}
        except ModelNotFound:
            done[model] = {"phase": "unpublished"}
        except Overtaken:
            done[model] = {"phase": "overtaken"}
        except Exception as error:
            logger.error("a release did not go on", exc_info=error, model=model)
            done[model] = {"phase": "failed"}
        count(f"Release.{done[model]['phase']}")
    return done


def worlds(settings: Settings) -> dict[str, EndpointWorld]:
    """Each model that has an endpoint, and what its release sees and changes."""
    import boto3

    bundles, images = open_store(settings.store_url), open_store(settings.images_store)
    session = boto3.session.Session()
    sagemaker, cloudwatch = session.client("sagemaker"), session.client("cloudwatch")
    alarms = [name.strip() for name in settings.rollback_alarms.split(",") if name.strip()]
    by_model = {}
    for model, name in settings.endpoint_by_model().items():
        endpoint = Endpoint(name, sagemaker, cloudwatch, alarms, settings.shift)
        by_model[model] = EndpointWorld(model, bundles, endpoint, _proofs(settings, model, Judge(bundles, images)))
    return by_model


def _proofs(settings: Settings, model: str, judge: Judge) -> Proofs:
    if settings.endpoint_type == "real-time":
        return RealTimeProofs(Endpoints(settings.endpoint_by_model()), judge)
    inference, spool = services.asynchronous(settings)
    return AsyncProofs(model, judge, inference, spool)


def _log(model: str, before: Release, step: Transition, refusal: BaseException | None) -> None:
    after = step.after
    logger.info("release", model=model, was=before.phase.value, action=str(step.action), **_summary(after))
    if refusal is not None:
        logger.error("an action was refused", exc_info=refusal, model=model)
    if after.failed is not None and before.failed is None and after.phase is not Phase.STUCK:
        count("Release.returned")
        logger.error("a version was taken back", model=model, version=str(after.failed), why=after.why)
    if after.phase is Phase.SETTLED:
        logger.info("released", model=model, traffic=str(after.proven))


def _summary(release: Release) -> Summary:
    summary: Summary = {"phase": release.phase.value, "goal": str(release.goal)}
    return summary | ({"why": release.why} if release.why else {})
