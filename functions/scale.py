"""The scheduler's tick on AWS: every stored policy is brought about by Application Auto Scaling, which then decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from darkroom.database.condition import Hold
from darkroom.endpoints import Endpoints
from darkroom.errors import InvalidPolicy, ModelNotFound
from darkroom.scaling.application_autoscaling import Desired, ScalableEndpoint, compile_policy
from darkroom.scaling.instances import cores_and_gpus
from darkroom.scaling.policy import ScalingPolicy
from darkroom.scaling.reconcile import Fenced, Report, clients, reconcile, remove
from darkroom.scaling.storage import PolicyStore, StoredPolicy, open_policies
from darkroom.scaling.timeline import timeline
from darkroom.settings import Settings
from functions.observability import count, flush, logger, traced

EndpointOf = Callable[[str], ScalableEndpoint]
AHEAD = timedelta(days=366)  # what scheduled actions are compiled for; each tick looks as far again
_NOTHING = ScalingPolicy(min=1, max=1)  # stands in for a deleted policy, of which only the endpoint matters


@traced
def lambda_handler(_event: object, _context: object) -> dict[str, Any]:
    """One tick: model -> what was done. One model's failure does not keep the others from being looked at.

    Raises: RuntimeError in the end where a model failed, so that the scheduler shows it and tries again.
    """
    import boto3

    settings = Settings.read()
    policies, endpoints = open_policies(settings.policies_store), settings.endpoint_by_model()
    known: EndpointOf = deployed(Endpoints(endpoints), boto3.client("sagemaker")) if endpoints else ScalableEndpoint
    try:
        done = Tick(policies, *clients(), endpoint=known, leave=settings.instance_limits()).run()
    finally:
        policies.close()
        flush()
    failed = [model for model, outcome in done.items() if outcome["outcome"] == "failed"]
    if failed:
        raise RuntimeError(f"these models could not be reconciled: {', '.join(failed)}")
    return done


def deployed(endpoints: Endpoints, client: Any) -> EndpointOf:
    """Model -> its endpoint as it is deployed: the variant, whether it is asynchronous, and what its machine has."""

    def endpoint(model: str) -> ScalableEndpoint:
        name = endpoints.of(model)
        live = client.describe_endpoint(EndpointName=name)["EndpointConfigName"]
        config = client.describe_endpoint_config(EndpointConfigName=live)
        variant = config["ProductionVariants"][0]
        cores, gpus = cores_and_gpus(variant["InstanceType"])
        return ScalableEndpoint(name, variant["VariantName"], "AsyncInferenceConfig" in config, gpus=gpus, cores=cores)

    return endpoint


@dataclass(frozen=True)
class Tick:
    """Reconciles every model whose policy is stored, and cleans up after those that were deleted.

    `leave`: the limits (min, max) that an endpoint keeps when its policy is deleted; without them it is scaled no more.
    """

    policies: PolicyStore
    scaling: Any  # both are boto3's clients
    cloudwatch: Any
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    endpoint: EndpointOf = ScalableEndpoint
    leave: tuple[int, int] | None = None

    def run(self) -> dict[str, dict[str, Any]]:
        """Model -> its outcome: `reconciled`, `removed`, `refused` (the policy cannot be followed on AWS), `overtaken`
        (another tick took over) or `failed`; with it what was created, updated and deleted, and whether it was drift
        made by hand. Raises: JobStoreUnavailable.
        """
        done: dict[str, dict[str, Any]] = {}
        for stored in self.policies.all():
            if stored.document is None and stored.applied is None:
                continue  # nothing of ours is out there
            done[stored.model] = outcome = self._one(stored.model)
            count(f"Scaling.{outcome['outcome']}")
            if outcome.get("drift"):
                count("Scaling.drift")
            log = logger.info if outcome["outcome"] in ("reconciled", "removed") else logger.warning
            log("scaling reconciled", model=stored.model, done=outcome)
        return done

    def _one(self, model: str) -> dict[str, Any]:
        hold = self.policies.take(model)
        # Read after taking over: an earlier holder that wrote something else in between can write no more.
        stored = next(one for one in self.policies.all() if one.model == model)
        try:
            if stored.document is None:
                nothing, fence = _desired(stored, self.now(), self.endpoint(model)), lambda: self.policies.held(hold)
                report = remove(nothing, self.scaling, self.cloudwatch, fence=fence, leave=self.leave)
                return _outcome("removed", report, self.policies.applied(hold, None))
            return self._followed(hold, stored)
        except (InvalidPolicy, ModelNotFound) as refused:
            return {"outcome": "refused", "why": refused.detail, "field": refused.field}
        except Fenced:
            return {"outcome": "overtaken"}
        except Exception as error:
            logger.error("reconciling failed", exc_info=error, model=model)
            return {"outcome": "failed"}

    def _followed(self, hold: Hold, stored: StoredPolicy) -> dict[str, Any]:
        desired = _desired(stored, self.now(), self.endpoint(stored.model))
        if stored.applied is None and not self.policies.applied(hold, "begun"):  # a tick that dies is cleaned up after
            return {"outcome": "overtaken"}
        fence, was = (lambda: self.policies.held(hold)), stored.applied
        report = reconcile(desired, self.scaling, self.cloudwatch, fence=fence, now=self.now, applied=was)
        return _outcome("reconciled", report, self.policies.applied(hold, desired.fingerprint()))


def _desired(stored: StoredPolicy, now: datetime, endpoint: ScalableEndpoint) -> Desired:
    policy = stored.policy or _NOTHING
    return compile_policy(policy, timeline(policy, now, now + AHEAD), endpoint)


def _outcome(outcome: str, report: Report, still_held: bool) -> dict[str, Any]:
    if not still_held:
        return {"outcome": "overtaken"}
    return {
        "outcome": outcome,
        "created": report.created,
        "updated": report.updated,
        "deleted": report.deleted,
        "drift": report.drift,
    }
