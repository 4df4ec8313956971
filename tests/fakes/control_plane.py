"""SageMaker's control plane: moto's, with the deployments that moto lacks, over HTTP in the service's own protocol.

`UpdateEndpoint` takes as long as a test says, may go back by itself, and refuses what SageMaker's documentation says it
refuses: another instance type of a variant that is scaled ("Update endpoints that use auto scaling" in the Developer
Guide). It takes the sizes of fleets from the configuration, but where RetainAllVariantProperties is said
(UpdateEndpoint in the API Reference). Nothing here was compared with the real service.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_READY = ("InService", "UpdateRollbackFailed")


@dataclass
class Deployed:
    """An endpoint: its configuration, weights and instances now, and what a deployment under way brings."""

    config: str
    weights: dict[str, float]
    instances: dict[str, int]
    status: str = "InService"
    coming: str | None = None
    deployment: dict[str, Any] = field(default_factory=dict)
    reweighed: dict[str, float] | None = None
    retains: bool = False


@dataclass
class ControlPlane:
    """In front of moto at `upstream`. `calls` are the operations that changed something, with their arguments."""

    upstream: str
    endpoints: dict[str, Deployed] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> ControlPlane:
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                status, said = plane.answer(headers, body)
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="control-plane")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # ---- what a test brings about ---------------------------------------------------------------------------------

    def finish(self, endpoint: str, *, status: str = "InService") -> None:
        """The deployment under way comes to its end."""
        found = self.endpoints[endpoint]
        if found.coming is not None:
            found.config, found.coming = found.coming, None
            variants = self._variants(found.config)
            weights = {one["VariantName"]: one.get("InitialVariantWeight", 1.0) for one in variants}
            instances = {one["VariantName"]: one["InitialInstanceCount"] for one in variants}
            if found.retains:
                weights |= {name: found.weights[name] for name in weights.keys() & found.weights.keys()}
                instances |= {name: found.instances[name] for name in instances.keys() & found.instances.keys()}
            found.weights, found.instances = weights, instances
        if found.reweighed is not None:
            found.weights, found.reweighed = found.weights | found.reweighed, None
        found.status = status

    def go_back(self, endpoint: str, *, status: str = "InService") -> None:
        """The deployment under way is given up, as when an alarm rings."""
        self.endpoints[endpoint].coming = None
        self.endpoints[endpoint].status = status

    # ---- the protocol ---------------------------------------------------------------------------------------------

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        operation = headers.get("X-Amz-Target", "").rpartition(".")[2]
        asked = json.loads(body or b"{}")
        ours = getattr(self, f"_{operation}", None)
        if not operation.startswith("Describe"):
            self.calls.append((operation, asked))
        if ours is None:
            told = httpx.post(self.upstream, content=body, headers=headers, trust_env=False, timeout=30)
            return told.status_code, told.content
        refusal, said = ours(asked)
        if refusal:
            return 400, json.dumps({"__type": "ValidationException", "message": refusal}).encode()
        return 200, json.dumps(said).encode()

    def _CreateEndpoint(self, asked: dict[str, Any]) -> tuple[str, Any]:  # noqa: N802
        name = asked["EndpointName"]
        variants = self._variants(asked["EndpointConfigName"])
        weights = {one["VariantName"]: one.get("InitialVariantWeight", 1.0) for one in variants}
        counts = {one["VariantName"]: one["InitialInstanceCount"] for one in variants}
        self.endpoints[name] = Deployed(asked["EndpointConfigName"], weights, counts)
        return "", {"EndpointArn": _arn(name)}

    def _DescribeEndpoint(self, asked: dict[str, Any]) -> tuple[str, Any]:  # noqa: N802
        name = asked["EndpointName"]
        found = self.endpoints.get(name)
        if found is None:
            return f"Could not find endpoint '{_arn(name)}'.", None
        summary = [
            {
                "VariantName": variant,
                "CurrentWeight": weight,
                "DesiredWeight": (found.reweighed or found.weights)[variant],
                "CurrentInstanceCount": found.instances[variant],
                "DesiredInstanceCount": found.instances[variant],
            }
            for variant, weight in found.weights.items()
        ]
        said: dict[str, Any] = {
            "EndpointName": name,
            "EndpointArn": _arn(name),
            "EndpointConfigName": found.config,
            "EndpointStatus": found.status,
            "ProductionVariants": summary,
            "CreationTime": 1_800_000_000.0,
            "LastModifiedTime": 1_800_000_000.0,
        }
        if found.coming is not None:
            said["PendingDeploymentSummary"] = {"EndpointConfigName": found.coming}
        return "", said

    def _UpdateEndpoint(self, asked: dict[str, Any]) -> tuple[str, Any]:  # noqa: N802
        found = self.endpoints[asked["EndpointName"]]
        if found.status not in _READY:
            return "Cannot update in-progress endpoint.", None
        variants = self._variants(asked["EndpointConfigName"])
        refusal = _refusal(variants, asked.get("DeploymentConfig", {})) or self._scaled(asked, found, variants)
        if not refusal:
            found.retains = asked.get("RetainAllVariantProperties", False)
            found.coming, found.status = asked["EndpointConfigName"], "Updating"
            found.deployment = asked.get("DeploymentConfig", {})
        return refusal, {"EndpointArn": _arn(asked["EndpointName"])}

    def _UpdateEndpointWeightsAndCapacities(self, asked: dict[str, Any]) -> tuple[str, Any]:  # noqa: N802
        found = self.endpoints[asked["EndpointName"]]
        if found.status not in _READY:
            return "Cannot update in-progress endpoint.", None
        wanted = {one["VariantName"]: one["DesiredWeight"] for one in asked["DesiredWeightsAndCapacities"]}
        if wanted.keys() - found.weights.keys():
            return "The variant name(s) are not present within the endpoint configuration.", None
        found.reweighed, found.status = wanted, "Updating"
        return "", {"EndpointArn": _arn(asked["EndpointName"])}

    def _scaled(self, asked: dict[str, Any], found: Deployed, variants: list[dict[str, Any]]) -> str:
        before = {one["VariantName"]: one["InstanceType"] for one in self._variants(found.config)}
        after = {one["VariantName"]: one["InstanceType"] for one in variants}
        changed = {name for name, kind in before.items() if after.get(name) != kind}
        targets = self._ask("AnyScaleFrontendService.DescribeScalableTargets", {"ServiceNamespace": "sagemaker"})
        scaled = {one["ResourceId"] for one in targets["ScalableTargets"]}
        stuck = sorted(name for name in changed if f"endpoint/{asked['EndpointName']}/variant/{name}" in scaled)
        if not stuck:
            return ""
        return f"The variant(s) {stuck} must be deregistered as scalable targets before they can be updated or removed."

    def _variants(self, config: str) -> list[dict[str, Any]]:
        told = self._ask("SageMaker.DescribeEndpointConfig", {"EndpointConfigName": config})
        variants: list[dict[str, Any]] = told["ProductionVariants"]
        return variants

    def _ask(self, target: str, body: dict[str, Any]) -> dict[str, Any]:
        service = "sagemaker" if target.startswith("SageMaker") else "application-autoscaling"
        headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/{service}/aws4_request"
        told = httpx.post(self.upstream, content=json.dumps(body), headers=headers, trust_env=False, timeout=30)
        told.raise_for_status()
        answer: dict[str, Any] = told.json()
        return answer


def _refusal(variants: list[dict[str, Any]], deployment: dict[str, Any]) -> str:
    """What the documentation says is refused."""
    if len(deployment.get("AutoRollbackConfiguration", {}).get("Alarms", ())) > 10:
        return "At most 10 alarms."
    routing = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    sizes = {"CANARY": ("CanarySize", 0), "LINEAR": ("LinearStepSize", 10)}
    if routing.get("Type") not in sizes:
        return ""
    name, least = sizes[routing["Type"]]
    for variant in variants:
        count, size = variant["InitialInstanceCount"], routing[name]
        percent = size["Value"] if size["Type"] == "CAPACITY_PERCENT" else 100 * size["Value"] / count
        if not least <= percent <= 50:
            return f"{name} must be {least} to 50 percent of the variant's {count} instances."
    return ""


def _arn(name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{name}"
