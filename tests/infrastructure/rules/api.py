"""The HTTP API: every path of the code has a legal route, callers are asked where they should be, and calls arrive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from api.app import ROUTES
from tests.infrastructure.rulebook import rule, states, wants
from tests.infrastructure.stack import Resource, Stack

# API Gateway refuses other characters in a route, a colon among them, and no linter says so.
ROUTE = re.compile(r"(ANY|GET|POST|PUT|DELETE|PATCH|OPTIONS|HEAD) ((?:/(?:\{[\w.-]+\+?\}|[A-Za-z0-9._-]+))+)")
OPEN = {"/ping", "/docs", "/openapi.json"}  # say nothing of anybody
AUTHORIZATION = {"api-key": "NONE", "jwt": "JWT", "iam": "AWS_IAM"}  # API keys are checked by the function


@rule
def routes_are_legal(stack: Stack) -> Iterator[str]:
    """Each is a method and a path that API Gateway takes; a greedy variable comes last."""
    for route in stack.of("AWS::ApiGatewayV2::Route"):
        match = ROUTE.fullmatch(route["RouteKey"])
        yield from wants(bool(match), f"{route.name}: no route: {route['RouteKey']}")
        greedy = "+" in route["RouteKey"] and not route["RouteKey"].endswith("+}")
        yield from wants(not greedy, f"{route.name}: a greedy variable must be last")


@rule
def every_path_of_the_code_has_a_route(stack: Stack) -> Iterator[str]:
    """And each route leads to a path of the code, by any method: the code itself answers 405 and HEAD."""
    routes = {one.name: one["RouteKey"].partition(" ") for one in stack.of("AWS::ApiGatewayV2::Route")}
    used = set()
    for pattern in ROUTES:
        path = re.sub(r"{\w+}", "x", pattern)
        found = [name for name, (_, _, route) in routes.items() if _matches(route, path)]
        used |= set(found)
        yield from wants(bool(found), f"no route leads to {path}")
    for name, (method, _, route) in routes.items():
        yield from wants(method == "ANY", f"{name}: only {method}")
        yield from wants(name in used, f"nothing answers {route}")


def _matches(route: str, path: str) -> bool:
    pattern = re.sub(r"\\\{[\w.\\-]+\\\}", "[^/]+", re.sub(r"\\\{[\w.\\-]+\\\+\\\}", ".+", re.escape(route)))
    return bool(re.fullmatch(pattern, path))


@rule
def callers_are_asked(stack: Stack) -> Iterator[str]:
    """Every route but the three open ones asks for what Access says; tokens are of our issuer, for our audience."""
    given = stack.parameters
    authorizers = {f"{one.name.lower()}-id": one for one in stack.of("AWS::ApiGatewayV2::Authorizer")}
    for route in stack.of("AWS::ApiGatewayV2::Route"):
        open_to_all = route["RouteKey"].partition(" ")[2] in OPEN
        wanted = "NONE" if open_to_all else AUTHORIZATION[given["Access"]]
        yield from wants(route["AuthorizationType"] == wanted, f"{route.name} must ask for {wanted}")
        yield from wants(
            (wanted == "JWT") == (route.get("AuthorizerId") in authorizers), f"{route.name}: its authorizer"
        )
    yield from wants(bool(authorizers) == (given["Access"] == "jwt"), "an authorizer exists with jwt, only")
    for one in authorizers.values():
        yield from wants(one["AuthorizerType"] == "JWT", "another kind of authorizer")
        yield from wants(
            one["IdentitySource"] == ["$request.header.Authorization"], "the token is looked for elsewhere"
        )
        wanted = {"Issuer": given["JwtIssuer"], "Audience": [given["JwtAudience"]]}
        yield from wants(one["JwtConfiguration"] == wanted, "tokens of another issuer, or for another audience")
        yield from states(one.name, one.properties, "Name")
    told = stack.functions()["api"]["Environment"]["Variables"]
    yield from wants(told["DARKROOM_ACCESS"] == given["Access"], "the function is told of another access")
    yield from wants(told["DARKROOM_ADMINS"] == given["Administrators"], "the function knows of other administrators")
    secret = told["DARKROOM_API_KEYS_SECRET"]
    yield from wants(secret.endswith("secret:apikeys-id") if given["Access"] == "api-key" else not secret, "the secret")


@rule
def calls_reach_the_function(stack: Stack) -> Iterator[str]:
    """Each route leads to the API function, as payload 2.0, for as long as the gateway waits at most."""
    (api,) = stack.of("AWS::ApiGatewayV2::Api")
    yield from wants(api["ProtocolType"] == "HTTP", "no HTTP API")
    yield from wants(api["Name"] == stack.parameters["Deployment"], "the API has another name")
    yield from states(api.name, api.properties, "Description")
    function = stack.functions()["api"]
    integrations = {f"integrations/{one.name.lower()}-id": one for one in stack.of("AWS::ApiGatewayV2::Integration")}
    for route in stack.of("AWS::ApiGatewayV2::Route"):
        yield from wants(route["Target"] in integrations, f"{route.name} leads nowhere")
        yield from _of(api, route)
    for one in integrations.values():
        yield from _of(api, one)
        yield from wants(one["IntegrationType"] == "AWS_PROXY", "no Lambda proxy")
        yield from wants(one["IntegrationUri"].endswith(f":{function['FunctionName']}"), "another function")
        yield from wants(one["PayloadFormatVersion"] == "2.0", "the handler reads payload 2.0")
        yield from wants(
            one["TimeoutInMillis"] == 1000 * function["Timeout"] == 30_000, "gateway and function disagree"
        )
    for one in stack.of("AWS::ApiGatewayV2::Authorizer"):
        yield from _of(api, one)


def _of(api: Resource, part: Resource) -> Iterator[str]:
    yield from wants(part["ApiId"] == f"{api.name.lower()}-id", f"{part.name} belongs to no API")


@rule
def the_stage_is_limited_and_logged(stack: Stack) -> Iterator[str]:
    """Deployed by itself under no prefix, throttled as said, measured per route, each request one line of JSON."""
    (api,) = stack.of("AWS::ApiGatewayV2::Api")
    (stage,) = stack.of("AWS::ApiGatewayV2::Stage")
    yield from _of(api, stage)
    yield from wants(stage["StageName"] == "$default", "paths get a prefix")
    yield from wants(stage["AutoDeploy"] is True, "a changed route is not deployed")
    limits = stage["DefaultRouteSettings"]
    yield from wants(limits["ThrottlingRateLimit"] == int(stack.parameters["ThrottleRate"]), "the rate is not limited")
    yield from wants(limits["ThrottlingBurstLimit"] == int(stack.parameters["ThrottleBurst"]), "bursts are not limited")
    yield from wants(limits["DetailedMetricsEnabled"] is True, "routes are not measured")
    log = stage["AccessLogSettings"]
    groups = {stack._attribute(one.name, "Arn") for one in stack.of("AWS::Logs::LogGroup")}
    yield from wants(
        log["DestinationArn"] in groups and "-access" in log["DestinationArn"], "access is logged elsewhere"
    )
    said = set(json.loads(log["Format"]).values())
    needed = {
        "$context.requestId",
        "$context.requestTime",
        "$context.path",
        "$context.status",
        "$context.responseLatency",
    }
    yield from wants(needed <= said, f"the access log lacks {needed - said}")
    # Neither header nor query: a key, or a signed URL, must not get into a log.
    yield from wants(not any("header" in one or "query" in one for one in said), "the access log tells secrets")


@rule
def outputs_say_how_to_call(stack: Stack) -> Iterator[str]:
    """The curl line names a path that is answered; each output says what it is."""
    for name, said in stack.template["Outputs"].items():
        yield from states(name, said, "Description", "Value")
    told = stack.outputs
    address = "https://api-id.execute-api.us-east-1.amazonaws.com"
    yield from wants(told["Url"] == address, "the URL is another")
    match = re.fullmatch(r"curl -X POST (\S+) -H \"x-api-key: \$KEY\" -d '(\{.*\})'", told["Curl"])
    yield from wants(
        bool(match) and match[1] == f"{address}/tione/v1/models/m:predict", f"the curl line: {told['Curl']}"
    )
    yield from wants(bool(match) and set(json.loads(match[2])) == {"prompt"}, "the curl line asks for something else")
    yield from wants(
        ("Key" in told) == (stack.parameters["Access"] == "api-key"), "how to get a key, where there is one"
    )
    yield from wants("apikeys-id" in told.get("Key", "apikeys-id"), "the key is read from another secret")
    yield from wants((told["EnginesBucket"], told["ImagesBucket"]) == ("engines-id", "images-id"), "the buckets")
    yield from wants(told["EndpointName"] == "darkroom-crayon", "the endpoint's name")
    yield from wants(told["DashboardUrl"].endswith("#dashboards:name=darkroom"), "the dashboard's address")
