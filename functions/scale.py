"""The scheduler's tick on AWS: Application Auto Scaling is told each endpoint's policy, and decides by it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from darkroom.endpoints import Endpoints
from darkroom.errors import InvalidPolicy, ModelNotFound
from darkroom.scaling.application_autoscaling import AHEAD, Desired, ScalableEndpoint, compile_policy
from darkroom.scaling.instances import cores_and_gpus
from darkroom.scaling.policy import Metric, Metrics, ScalingPolicy
from darkroom.scaling.reconcile import Fenced, Report, Unregistered, clients, reconcile, remove
from darkroom.scaling.storage import PolicyStore, open_policies
from darkroom.scaling.timeline import timeline
from darkroom.settings import Settings
from functions.observability import count, flush, logger, traced

EndpointOf = Callable[[str], ScalableEndpoint]
_NO_FLEET = ("Creating", "Deleting", "Failed")
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
    usual = usual_policy(settings)
    try:
        models, registers = tuple(endpoints) if usual else (), not usual
        done = Tick(policies, *clients(), endpoint=known, usual=usual, models=models, registers=registers).run()
    finally:
        policies.close()
        flush()
    failed = [model for model, outcome in done.items() if outcome["outcome"] == "failed"]
    if failed:
        raise RuntimeError(f"these models could not be reconciled: {', '.join(failed)}")
    return done


def usual_policy(settings: Settings) -> ScalingPolicy | None:
    """What an endpoint follows while no policy is stored; None where that is nobody's business here."""
    limits = settings.instance_limits()
    if limits is None:
        return None
    backlog = Metric.model_validate({"target": float(settings.backlog_per_instance), "scale_in_cooldown": "10m"})
    return ScalingPolicy(min=limits[0], max=limits[1], metrics=Metrics(queue_depth=backlog))


class EndpointAbsent(Exception):
    """There is no endpoint yet, or none any more: nothing can be scaled, and nothing has failed."""


def deployed(endpoints: Endpoints, client: Any) -> EndpointOf:
    """Model -> its endpoint as it is deployed: the variant, whether it is asynchronous, and what its machine has.

    That raises: ModelNotFound, EndpointAbsent, what boto3 raises.
    """
    from botocore.exceptions import ClientError

    def endpoint(model: str) -> ScalableEndpoint:
        name = endpoints.of(model)
        try:
            described = client.describe_endpoint(EndpointName=name)
        except ClientError as refused:
            if "Could not find" in refused.response["Error"].get("Message", ""):
                raise EndpointAbsent from refused
            raise
        if described["EndpointStatus"] in _NO_FLEET:
            raise EndpointAbsent
        config = client.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
        variant = config["ProductionVariants"][0]
        cores, gpus = cores_and_gpus(variant["InstanceType"])
        return ScalableEndpoint(name, variant["VariantName"], "AsyncInferenceConfig" in config, gpus=gpus, cores=cores)

    return endpoint


@dataclass(frozen=True)
class Tick:
    """Reconciles every model whose policy is stored, and cleans up after those that were deleted.

    `models` follow the policy `usual` while none is stored: one owner, and the same names, so that a metric never has
    two policies. Without it an endpoint whose policy is deleted is scaled no more. Where `registers` is false a stack
    registers what is scaled, and takes it away for a change that SageMaker refuses of what is.
    """

    policies: PolicyStore
    scaling: Any  # both are boto3's clients
    cloudwatch: Any
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    endpoint: EndpointOf = ScalableEndpoint
    usual: ScalingPolicy | None = None
    models: Collection[str] = ()
    registers: bool = True

    def run(self) -> dict[str, dict[str, Any]]:
        """Model -> its outcome: `reconciled`, `removed`, `absent` (nothing is scaled), `refused` (the policy cannot be
        followed on AWS), `overtaken` (another tick took over) or `failed`; with it what was created, updated and
        deleted, and whether it was drift made by hand. Raises: JobStoreUnavailable.
        """
        done: dict[str, dict[str, Any]] = {}
        stored = {one.model: one for one in self.policies.all()}
        for model in [*stored, *(one for one in self.models if one not in stored)]:
            one = stored.get(model)
            if model not in self.models and (one is None or (one.document is None and one.applied is None)):
                continue  # nothing of ours is out there
            done[model] = outcome = self._one(model, is_stored=one is not None)
            count(f"Scaling.{outcome['outcome']}")
            if outcome.get("drift"):
                count("Scaling.drift")
            log = logger.info if outcome["outcome"] in ("reconciled", "removed", "absent") else logger.warning
            log("scaling reconciled", model=model, done=outcome)
        return done

    def _one(self, model: str, *, is_stored: bool) -> dict[str, Any]:
        try:
            return self._stored(model) if is_stored else self._never_stored(model)
        except (EndpointAbsent, Unregistered):
            return {"outcome": "absent"}
        except (InvalidPolicy, ModelNotFound) as refused:
            return {"outcome": "refused", "why": refused.detail, "field": refused.field}
        except Fenced:
            return {"outcome": "overtaken"}
        except Exception as error:
            logger.error("reconciling failed", exc_info=error, model=model)
            return {"outcome": "failed"}

    def _never_stored(self, model: str) -> dict[str, Any]:
        """Nothing is there to hold: whoever stores the first policy meanwhile is heard before each write."""
        desired = self._desired(self.usual or _NOTHING, model)
        report = self._reconcile(desired, lambda: self.policies.get(model) is None, applied=None)
        return _outcome("reconciled", report, True)

    def _stored(self, model: str) -> dict[str, Any]:
        hold = self.policies.take(model)
        # Read after taking over: an earlier holder that wrote something else in between can write no more.
        stored = next(one for one in self.policies.all() if one.model == model)
        policy, fence = stored.policy, lambda: self.policies.held(hold)
        if policy is None and model in self.models:
            policy = self.usual
        desired = self._desired(policy or _NOTHING, model)
        if policy is None:
            report = remove(desired, self.scaling, self.cloudwatch, fence=fence)
            return _outcome("removed", report, self.policies.applied(hold, None))
        if stored.applied is None and not self.policies.applied(hold, "begun"):  # a tick that dies is cleaned up after
            return {"outcome": "overtaken"}
        report = self._reconcile(desired, fence, applied=stored.applied)
        return _outcome("reconciled", report, self.policies.applied(hold, desired.fingerprint()))

    def _desired(self, policy: ScalingPolicy, model: str) -> Desired:
        now = self.now()
        return compile_policy(policy, timeline(policy, now, now + AHEAD), self.endpoint(model))

    def _reconcile(self, desired: Desired, fence: Callable[[], bool], *, applied: str | None) -> Report:
        return reconcile(
            desired,
            self.scaling,
            self.cloudwatch,
            fence=fence,
            now=self.now,
            applied=applied,
            registers=self.registers,
        )


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
