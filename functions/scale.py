"""The scheduler's tick on AWS: every stored policy is brought about by Application Auto Scaling, which then decides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from darkroom import settings as configuration
from darkroom.errors import InvalidPolicy
from darkroom.scaling.application_autoscaling import Desired, Endpoint, compile_policy
from darkroom.scaling.policy import ScalingPolicy
from darkroom.scaling.reconcile import Client, Fenced, Report, clients, reconcile, remove
from darkroom.scaling.storage import Hold, PolicyStore, StoredPolicy, open_policies
from darkroom.scaling.timeline import timeline
from functions.observability import count, flush, logger

AHEAD = timedelta(days=366)  # what scheduled actions are compiled for; each tick looks as far again
_NOTHING = ScalingPolicy(min=1, max=1)  # stands in for a deleted policy, of which only the endpoint matters


def lambda_handler(_event: object, _context: object) -> dict[str, Any]:
    """One tick: model -> what was done. One model's failure does not keep the others from being looked at.

    Raises: RuntimeError in the end where a model failed, so that the scheduler shows it and tries again.
    """
    policies = open_policies(configuration.load().policies_store)
    try:
        done = tick(policies, *clients(), now=lambda: datetime.now(UTC))
    finally:
        policies.close()
        flush()
    failed = [model for model, said in done.items() if said["outcome"] == "failed"]
    if failed:
        raise RuntimeError(f"these models could not be reconciled: {', '.join(failed)}")
    return done


def tick(
    policies: PolicyStore, scaling: Client, cloudwatch: Client, *, now: Callable[[], datetime]
) -> dict[str, dict[str, Any]]:
    """Reconcile every model whose policy is stored, and clean up after those that were deleted.

    An outcome is `reconciled`, `removed`, `refused` (the policy cannot be followed on AWS), `overtaken` (another tick
    took over) or `failed`; with it what was created, updated and deleted, and whether it was drift made by hand.
    Raises: JobStoreUnavailable.
    """
    done: dict[str, dict[str, Any]] = {}
    for stored in policies.all():
        if stored.document is None and stored.applied is None:
            continue  # nothing of ours is out there
        done[stored.model] = said = _one(policies, stored.model, scaling, cloudwatch, now)
        count(f"Scaling.{said['outcome']}")
        if said.get("drift"):
            count("Scaling.drift")
        tell = logger.info if said["outcome"] in ("reconciled", "removed") else logger.warning
        tell("scaling reconciled", model=stored.model, done=said)
    return done


def _one(
    policies: PolicyStore, model: str, scaling: Client, cloudwatch: Client, now: Callable[[], datetime]
) -> dict[str, Any]:
    hold = policies.take(model)
    # Read after taking over: an earlier holder that wrote something else in between can write no more.
    stored = next(one for one in policies.all() if one.model == model)
    try:
        if stored.document is None:
            report = remove(_desired(stored, now()), scaling, cloudwatch, fence=lambda: policies.held(hold))
            return _told("removed", report, policies.applied(hold, None))
        return _followed(policies, hold, stored, scaling, cloudwatch, now)
    except InvalidPolicy as refused:
        return {"outcome": "refused", "why": refused.detail, "field": refused.field}
    except Fenced:
        return {"outcome": "overtaken"}
    except Exception as error:
        logger.error("reconciling failed", exc_info=error, model=model)
        return {"outcome": "failed"}


def _followed(
    policies: PolicyStore,
    hold: Hold,
    stored: StoredPolicy,
    scaling: Client,
    cloudwatch: Client,
    now: Callable[[], datetime],
) -> dict[str, Any]:
    desired = _desired(stored, now())
    fingerprint = desired.fingerprint()
    if stored.applied is None and not policies.applied(hold, "begun"):  # even a tick that dies is cleaned up after
        return {"outcome": "overtaken"}
    report = reconcile(desired, scaling, cloudwatch, fence=lambda: policies.held(hold), now=now, applied=stored.applied)
    return _told("reconciled", report, policies.applied(hold, fingerprint))


def _desired(stored: StoredPolicy, now: datetime) -> Desired:
    policy = stored.policy or _NOTHING
    return compile_policy(policy, timeline(policy, now, now + AHEAD), Endpoint(stored.model))


def _told(outcome: str, report: Report, still_held: bool) -> dict[str, Any]:
    if not still_held:
        return {"outcome": "overtaken"}
    return {
        "outcome": outcome,
        "created": report.created,
        "updated": report.updated,
        "deleted": report.deleted,
        "drift": report.drift,
    }
