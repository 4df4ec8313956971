"""Functions and their layer: what runs is in the repository, is told what it reads, and is compiled for its machine."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from darkroom import settings
from darkroom.settings import Settings
from runtime import config as runtime_config
from runtime.config import RuntimeConfig
from tests.infrastructure.rulebook import rule, states, wants
from tests.infrastructure.stack import ROOT, Resource, Stack

# Settings that a function may read without being told: their defaults are right on AWS, or they mean one machine.
DEFAULTS = {
    "api_keys": "keys come from the secret",
    "signing_key": "signs the directory store's URLs",
    "public_url": "addresses the directory store",
    "image_url_seconds": "an hour",
    "max_body_bytes": "2 MiB; Lambda takes 6 MB",
    "wait_seconds": "25 s; the gateway cuts at 30",
    "max_wait_seconds": "25 s; the gateway cuts at 30",
    "max_queued_jobs": "a thousand",
    "max_tenant_queued_jobs": "SageMaker queues; jobs are not claimed",
    "max_attempts": "three",
    "lease_seconds": "no worker of ours claims jobs on AWS",
    "job_days": "a month",
    "max_upload_bytes": "20 MiB",
    "max_tenant_upload_bytes": "2 GiB",
    "upload_url_seconds": "a quarter of an hour",
    "shift": "a canary",
    "upload_hours": "a day; the bucket deletes them after two",
}
RUNTIME_DEFAULTS = {
    "version": "the pointer's; a release names one",
    "target": "the first that fits the machine",
    "fd": "inherited sockets, on one machine",
    "bundle_dir": "/opt/ml/model, where a model has data of its own; ours load theirs",
    "max_rows": "as measured",
    "max_queue": "as measured",
    "ageing_steps": "as measured",
    "strict": "off",
    "threads": "one per processor",
    "tile_beyond": "the container knows whether it runs on a CPU or a GPU",
    "compiled_mb": "2 GB on the container's own disk",
    "static_mb": "what its memory allows by default; OpenVINO targets only",
    "drain_seconds": "25 of the platform's 30",
    "hung_seconds": "two minutes",
    "body_seconds": "ten seconds",
    "max_body_bytes": "3 MiB, above the API's own cap",
    "fetch_allow": "no private address may be fetched from",
    "fetch_http": "https only",
    "fetch_seconds": "ten seconds",
    "max_image_bytes": "20 MiB",
    "max_image_pixels": "25 million",
    "cache": "where the bundle is calibrated",
    "cache_quality": "as calibrated",
    "cache_deepest": "as calibrated",
    "cache_memory_mb": "256 MB",
    "cache_disk_mb": "1 GB of the instance's disk",
    "cache_store_mb": "1 GB that instances share",
    "cache_share_seconds": "five seconds",
    "gpu_memory_fraction": "the whole card: one container an instance",
    "gpu_graphs": "two shapes",
    "models": "one model a stack",
    "log_level": "info",
}
OTHER_DEFAULTS = {
    *("S3_CHECKSUMS", "S3_CONNECT_SECONDS", "S3_READ_SECONDS", "S3_ATTEMPTS", "POWERTOOLS_TRACE_DISABLED"),
    "AWS_REGION",  # Lambda's own
}
# What the API's wiring reads, and no other function that imports from it.
OF_THE_API = {"access", "api_keys_secret"}
# What powertools reads; nothing of ours does.
POWERTOOLS = {"POWERTOOLS_LOG_LEVEL", "POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"}
_LONGEST_WAIT = 25
NEW_ACCOUNT = 10  # concurrent executions: "Lambda quotas" in the Lambda Developer Guide


@rule
def functions_are_those_of_the_repository(stack: Stack) -> Iterator[str]:
    """One function for each module of functions/ that has a handler."""
    found = stack.functions()
    modules = {one.stem for one in (ROOT / "functions").glob("*.py") if "lambda_handler" in _defined(one)}
    yield from wants(found.keys() == modules, f"functions: {sorted(found)}, handlers: {sorted(modules)}")
    for name, function in found.items():
        module, _, handler = function["Handler"].rpartition(".")
        source = ROOT / function["CodeUri"] / f"{module.removeprefix('functions.')}.py"
        yield from wants(handler in _defined(source), f"{source.name} has no {handler}")
        named = f"{stack.parameters['Deployment']}-{name.replace('_', '-')}"
        yield from wants(function["FunctionName"] == named, f"{function.name} must be called {named}")
        yield from states(function.name, function.properties, "Description")


@functools.cache
def _defined(source: Path) -> set[str]:
    return {node.name for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)}


@rule
def python_is_current(stack: Stack) -> Iterator[str]:
    """Lambda will offer it for two more years, and the layer is for the same Python and machine as the functions."""
    lifecycle = json.loads(
        resources.files("cfnlint").joinpath("data/AdditionalSpecs/LmbdRuntimeLifecycle.json").read_text()
    )
    (layer,) = stack.of("AWS::Serverless::LayerVersion")
    for function in stack.of("AWS::Serverless::Function"):
        ends = lifecycle[function["Runtime"]]["deprecated"]
        yield from wants(ends >= "2028-11-01", f"{function.name}: {function['Runtime']} ends on {ends}")
        yield from wants(layer["CompatibleRuntimes"] == [function["Runtime"]], "the layer is for another Python")
        yield from wants(function["Architectures"] == ["arm64"], f"{function.name} is not on arm64")
        yield from wants(
            layer["CompatibleArchitectures"] == function["Architectures"], "the layer is for another machine"
        )
        yield from wants(function["Layers"] == [f"{layer.name.lower()}-id"], f"{function.name} lacks the layer")


@rule
def code_is_compiled_ahead(stack: Stack) -> Iterator[str]:
    """Function and layer are built by a Makefile of ours, because sam's own build leaves out the byte code."""
    for one in [*stack.of("AWS::Serverless::Function"), *stack.of("AWS::Serverless::LayerVersion")]:
        yield from wants(one.attributes["Metadata"]["BuildMethod"] == "makefile", f"{one.name} is not compiled ahead")
        folder = ROOT / (one.get("CodeUri") or one.get("ContentUri"))
        makefile = (folder / "Makefile").read_text()
        builds = re.search(rf"^build-(%|{one.name}):", makefile, re.MULTILINE)
        yield from wants(bool(builds), f"{folder.name}/Makefile does not build {one.name}")
    (layer,) = stack.of("AWS::Serverless::LayerVersion")
    machine = layer.attributes["Metadata"].get("BuildArchitecture")
    yield from wants(machine == layer["CompatibleArchitectures"][0], "the layer is built for another machine")
    yield from wants(layer["RetentionPolicy"] == "Delete", "old layers pile up")
    yield from states(layer.name, layer.properties, "Description")


@rule
def functions_have_room_and_time(stack: Stack) -> Iterator[str]:
    """The API outlives the longest wait and not the gateway; below 512 MB an import alone takes seconds."""
    for name, function in stack.functions().items():
        yield from wants(512 <= function["MemorySize"] <= 2048, f"{function.name}: {function.get('MemorySize')} MB")
        low, high = (_LONGEST_WAIT + 3, 30) if name == "api" else (60, 300)
        yield from wants(low <= function["Timeout"] <= high, f"{function.name} must end after {low} to {high} s")


@rule
def waiting_leaves_room_for_closing(stack: Stack) -> Iterator[str]:
    """By default half of a new account's ten executions may wait; what is reserved is job_events', and nothing is where
    nothing can be."""
    most = stack.template["Parameters"]["MaxWaiting"]["Default"]
    yield from wants(most <= NEW_ACCOUNT // 2, f"{most} who wait starve a new account")
    told = Settings.read(environment(stack.functions()["api"]))
    yield from wants(str(told.max_waiting) == stack.parameters["MaxWaiting"], "the API lets others wait")
    for name, function in stack.functions().items():
        reserved = int(stack.parameters["ReservedExecutions"]) if name == "job_events" else 0
        given = function.get("ReservedConcurrentExecutions", 0)
        yield from wants(given == reserved, f"{function.name} keeps {given} executions, not {reserved}")


@rule
def functions_can_be_followed(stack: Stack) -> Iterator[str]:
    """Traced, and logging JSON into a group of its own."""
    groups = [one["LogGroupName"] for one in stack.of("AWS::Logs::LogGroup")]
    for function in stack.of("AWS::Serverless::Function"):
        yield from wants(function["Tracing"] == "Active", f"{function.name} is not traced")
        logging = function["LoggingConfig"]
        yield from wants(logging["LogFormat"] == "JSON", f"{function.name} does not log JSON")
        # Lambda drops what is less important, INFO where nothing is said, before any logger of ours is asked.
        level = {"WARNING": "WARN"}.get(stack.parameters["LogLevel"], stack.parameters["LogLevel"])
        yield from wants(logging["ApplicationLogLevel"] == level, f"Lambda drops lines of {function.name}")
        own = logging["LogGroup"] == f"/aws/lambda/{function['FunctionName']}" and logging["LogGroup"] in groups
        yield from wants(own, f"{function.name} logs elsewhere")


@rule
def what_fails_is_tried_again_and_kept(stack: Stack) -> Iterator[str]:
    """An event that nobody waits for is tried again within the hour and then kept; a tick is followed by the next."""
    queues = {f"arn:aws:sqs:us-east-1:123456789012:{one.name.lower()}-id" for one in stack.of("AWS::SQS::Queue")}
    for name, function in stack.functions().items():
        if name == "api":
            continue
        said = function["EventInvokeConfig"]
        yield from wants(60 <= said["MaximumEventAgeInSeconds"] <= 3600, f"{function.name} handles stale events")
        if name in ("scale", "release"):
            yield from wants(said["MaximumRetryAttempts"] == 0, "a tick that failed must not overtake the next one")
            continue
        yield from wants(said["MaximumRetryAttempts"] == 2, f"{function.name} tries once only")
        failed = said["DestinationConfig"]["OnFailure"]
        yield from wants(failed["Type"] == "SQS" and failed["Destination"] in queues, f"{function.name} drops events")
    for queue in stack.of("AWS::SQS::Queue"):
        yield from wants(queue["SqsManagedSseEnabled"] is True, f"{queue.name} is not encrypted")
        yield from wants(queue["MessageRetentionPeriod"] == 14 * 86_400, f"{queue.name} forgets before anyone looks")


# ---- environment --------------------------------------------------------------------------------------------------


def environment(function: Resource) -> dict[str, str]:
    """The variables that a function is started with."""
    return {name: str(value) for name, value in function["Environment"]["Variables"].items()}


@rule
def functions_are_told_what_they_read(stack: Stack) -> Iterator[str]:
    """Every setting that a function's modules read is set, or has a default that is right on AWS; no other is."""
    for name, function in stack.functions().items():
        told = environment(function)
        try:
            Settings.read(told)
        except settings.SettingsError as refused:
            yield f"{function.name} would not start: {refused}"
        reads = _reads(f"functions.{name}")
        for one in sorted(reads["settings"] - DEFAULTS.keys() - (set() if name == "api" else OF_THE_API)):
            variable = f"{settings.PREFIX}{one.upper()}"
            yield from wants(variable in told, f"{function.name} is not told {variable}")
        for variable in sorted(reads["environment"] - OTHER_DEFAULTS):
            yield from wants(variable in told, f"{function.name} is not told {variable}")
        for variable in POWERTOOLS:
            yield from wants(bool(told.get(variable)), f"{function.name} is not told {variable}")
        known = {f"{settings.PREFIX}{one.upper()}" for one in Settings.model_fields} | _S3 | POWERTOOLS
        for variable in sorted(told.keys() - known):
            yield f"{function.name} is told {variable}, and nothing reads it"


@rule
def addresses_lead_where_the_stack_keeps_things(stack: Stack) -> Iterator[str]:
    """Stores, tables and endpoints in the environment are those of this stack, or the other object store's."""
    given, other = stack.parameters, bool(stack.parameters["StoreEndpoint"])
    for name, function in stack.functions().items():
        told = Settings.read(environment(function))
        yield from wants(told.store_url == (given["EngineStore"] if other else "s3://engines-id"), f"{name}: store_url")
        yield from wants(told.images_store == (given["ImageStore"] if other else "s3://images-id"), f"{name}: images")
        yield from wants(told.jobs_url == "dynamodb://jobs-id", f"{name}: jobs_url")
        yield from wants(told.policies_store == "dynamodb://policies-id", f"{name}: policies_url")
        yield from wants(told.default_model == given["ModelName"], f"{name}: default_model")
        patience = (1800, 3600) if given["EndpointType"] == "async" else (30, 120)
        yield from wants(patience[0] <= told.job_seconds <= patience[1], f"{name}: job_seconds")
        yield from wants(told.log_level == given["LogLevel"], f"{name}: log_level")
        yield from _other_store(f"{name}", environment(function), stack)


def _other_store(where: str, told: dict[str, str], stack: Stack) -> Iterator[str]:
    given = stack.parameters
    yield from wants(told["S3_ENDPOINT_URL"] == given["StoreEndpoint"], f"{where}: S3_ENDPOINT_URL")
    yield from wants(told["S3_ADDRESSING_STYLE"] == given["StoreAddressing"], f"{where}: S3_ADDRESSING_STYLE")
    yield from wants(told["S3_REGION"] in (given["StoreRegion"], "us-east-1"), f"{where}: S3_REGION")
    for variable in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"):
        key = variable.removeprefix("S3_").lower()
        secret = f"{{{{resolve:secretsmanager:{given['StoreCredentials']}:SecretString:{key}}}}}"
        wanted = secret if given["StoreEndpoint"] else ""
        yield from wants(told[variable] == wanted, f"{where}: {variable} is not read from the secret")


@rule
def the_container_is_told_what_it_reads(stack: Stack) -> Iterator[str]:
    """Every RUNTIME_ setting is set or has a default that is right on AWS; it listens where SageMaker calls."""
    for model in stack.of("AWS::SageMaker::Model"):
        told = {name: str(value) for name, value in model["PrimaryContainer"]["Environment"].items()}
        read = runtime_config.load(told)
        prefix, other = runtime_config.PREFIX, bool(stack.parameters["StoreEndpoint"])
        for one in RuntimeConfig.model_fields.keys() - RUNTIME_DEFAULTS.keys():
            yield from wants(f"{prefix}{one.upper()}" in told, f"the container is not told {prefix}{one.upper()}")
        for variable in sorted(_S3 - OTHER_DEFAULTS):
            yield from wants(variable in told, f"the container is not told {variable}")
        yield from wants((read.host, read.port) == ("0.0.0.0", 8080), "SageMaker calls port 8080, from outside")  # noqa: S104
        yield from wants(read.model == stack.parameters["ModelName"], "the container serves another model")
        engines, images = ("EngineStore", "ImageStore") if other else ("", "")
        yield from wants(read.store_url == (stack.parameters.get(engines) or "s3://engines-id"), "another store_url")
        yield from wants(read.images_url == (stack.parameters.get(images) or "s3://images-id"), "another images_url")
        yield from wants(told["RUNTIME_TRUSTED_KEYS"] == stack.parameters["TrustedKeys"], "other keys are trusted")
        yield from wants(read.cache_dir.is_absolute(), "the container's working directory may be read-only")
        yield from _other_store("the container", told, stack)


@functools.cache
def _reads(module: str) -> dict[str, set[str]]:
    """Which settings and which other variables a module, and what it imports of ours, read."""
    reads: dict[str, set[str]] = {"settings": set(), "environment": set()}
    for source in sorted(modules_of(module)):
        if source.name == "settings.py":
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in _NAMES:
                reads["settings"] |= _NAMES[node.attr]
        reads["environment"] |= set(re.findall(r"environ(?:ment)?\.get\(\s*\"(\w+)\"", source.read_text()))
    return reads


# Some settings are read through a property of `Settings`.
_NAMES: dict[str, set[str]] = {name: {name} for name in Settings.model_fields} | {
    "images_store": {"images_url", "store_url"},
    "policies_store": {"policies_url", "jobs_url"},
    "tenants_by_key": {"api_keys"},
}
_S3 = set(re.findall(r"^    (S3_[A-Z_]+) ", (ROOT / "layers/shared/darkroom/storage/s3.py").read_text(), re.MULTILINE))


def modules_of(module: str) -> set[Path]:
    """The files of a module and of all of `functions`, `api` and `darkroom` that it imports, anywhere in its code."""
    waiting, found = [module], {}
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in found:
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [one.name for one in node.names]
    return set(found.values())


def _file(module: str) -> Path | None:
    room = ROOT / "layers/shared" if module.startswith("darkroom") else ROOT
    if module.partition(".")[0] not in ("api", "darkroom", "functions"):
        return None
    place = room / module.replace(".", "/")
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None
