"""An endpoint through SageMaker's control plane: what it runs, and telling it to run something else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from darkroom.release.advance import ActionRefused, NotNow
from darkroom.release.fleet import BESIDE, MAIN, Described, Shift, config_for, deployment, model_for, named, traffic_of
from darkroom.release.state import EndpointStatus, TrafficSplit

_log = logging.getLogger(__name__)
_READY = ("InService", "UpdateRollbackFailed")  # the latter serves, with a mixture
_BROKEN = ("Failed", "OutOfService", "Deleting")
_REFUSALS = ("ValidationException", "ResourceLimitExceeded")


@dataclass(frozen=True)
class EndpointSnapshot:
    """What an endpoint is up to. `coming` is what it is changing to."""

    status: EndpointStatus
    running: TrafficSplit | None = None
    coming: TrafficSplit | None = None


@dataclass
class Endpoint:
    """The endpoint `name`; `sagemaker` and `cloudwatch` are boto3 clients.

    `alarms` end a careful change. One that rings already is left out, or it would end the very release that mends it.
    """

    name: str
    sagemaker: Any
    cloudwatch: Any
    alarms: Sequence[str] = ()
    shift: Shift = "canary"
    _configs: dict[str, Described] = field(default_factory=dict)
    _models: dict[str, Described] = field(default_factory=dict)

    def look(self) -> EndpointSnapshot:
        """Raises: what boto3 raises."""
        description = self._describe()
        if description is None:
            return EndpointSnapshot(EndpointStatus.ABSENT)
        reported = description["EndpointStatus"]
        if reported in _BROKEN:
            return EndpointSnapshot(EndpointStatus.BROKEN)
        if reported == "Creating":
            return EndpointSnapshot(EndpointStatus.BUSY)
        status = EndpointStatus.READY if reported in _READY else EndpointStatus.BUSY
        running = self._traffic(description["EndpointConfigName"], description.get("ProductionVariants", ()))
        coming = description.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        mixed = reported == "UpdateRollbackFailed"
        return EndpointSnapshot(status, None if mixed else running, self._traffic(coming, ()) if coming else None)

    def ringing(self) -> tuple[str, ...]:
        """Those of the alarms that ring now."""
        if not self.alarms:
            return ()
        ringing = self.cloudwatch.describe_alarms(AlarmNames=list(self.alarms), StateValue="ALARM")
        return tuple(sorted(one["AlarmName"] for kind in ("MetricAlarms", "CompositeAlarms") for one in ringing[kind]))

    def update(self, traffic: TrafficSplit, *, careful: bool) -> None:
        """Make the models and the configuration that are missing, and tell the endpoint to use them.

        Raises: NotNow, ActionRefused, what boto3 raises.
        """
        description = self._describe()
        if description is None:
            raise NotNow
        config = self._config(description["EndpointConfigName"])
        main = next(one for one in config["ProductionVariants"] if one["VariantName"] == MAIN)
        models = {version: self._made_model(version, main["ModelName"]) for version in traffic.versions}
        arguments = config_for(traffic, config, models, _instances(description))
        name = named(self.name, traffic.version, arguments)
        if self._known("describe_endpoint_config", EndpointConfigName=name) is None:
            self._call("create_endpoint_config", EndpointConfigName=name, **arguments)
        ringing = self.ringing() if careful else ()
        alarms = [one for one in self.alarms if one not in ringing]
        how = deployment(arguments, careful=careful, alarms=alarms, shift=self.shift)
        self._call("update_endpoint", EndpointName=self.name, EndpointConfigName=name, DeploymentConfig=how)

    def reweigh(self, traffic: TrafficSplit) -> None:
        """Change the variants' shares. Raises: NotNow, ActionRefused, what boto3 raises."""
        shares = {MAIN: 100 - traffic.percent, BESIDE: traffic.percent}
        weights = [{"VariantName": name, "DesiredWeight": float(share)} for name, share in shares.items()]
        self._call(
            "update_endpoint_weights_and_capacities", EndpointName=self.name, DesiredWeightsAndCapacities=weights
        )

    # ---- calls ----------------------------------------------------------------------------------------------------

    def _describe(self) -> Described | None:
        return self._known("describe_endpoint", EndpointName=self.name)

    def _known(self, operation: str, **arguments: str) -> Described | None:
        """A description; None where there is no such thing."""
        from botocore.exceptions import ClientError

        try:
            response: Described = getattr(self.sagemaker, operation)(**arguments)
        except ClientError as refused:
            if "Could not find" in refused.response["Error"].get("Message", ""):
                return None
            raise
        return response

    def _call(self, operation: str, **arguments: Any) -> None:
        from botocore.exceptions import ClientError

        try:
            getattr(self.sagemaker, operation)(**arguments)
        except ClientError as refused:
            if refused.response["Error"]["Code"] not in _REFUSALS:
                raise
            if self.look().status is not EndpointStatus.READY:
                said = refused.response["Error"]
                _log.warning("%s was refused for now: %s: %s", operation, said["Code"], said.get("Message"))
                raise NotNow from refused
            raise ActionRefused("SageMaker refused the change; the log of the release function says why.") from refused

    def _made_model(self, version: str, like: str) -> str:
        arguments = model_for(version, self._model(like))
        name = named(self.name, version, arguments)
        if self._known("describe_model", ModelName=name) is None:
            self._call("create_model", ModelName=name, **arguments)
        return name

    def _traffic(self, config_name: str, variants: Sequence[Described]) -> TrafficSplit | None:
        config = self._config(config_name)
        models = {one["ModelName"]: self._model(one["ModelName"]) for one in config["ProductionVariants"]}
        weights = {one["VariantName"]: one["CurrentWeight"] for one in variants if "CurrentWeight" in one}
        return traffic_of(config, models, weights)

    # Neither ever changes under its name.

    def _config(self, name: str) -> Described:
        if name not in self._configs:
            self._configs[name] = self.sagemaker.describe_endpoint_config(EndpointConfigName=name)
        return self._configs[name]

    def _model(self, name: str) -> Described:
        if name not in self._models:
            self._models[name] = self.sagemaker.describe_model(ModelName=name)
        return self._models[name]


def _instances(description: Described) -> dict[str, int]:
    """As many as each variant is meant to have now."""
    return {
        one["VariantName"]: int(one.get("DesiredInstanceCount", one.get("CurrentInstanceCount", 1)))
        for one in description.get("ProductionVariants", ())
    }
