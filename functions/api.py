"""Every HTTP route: parse, one call, answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from darkroom.contracts import Job
from darkroom.errors import (
    DarkroomError,
    IdempotencyInProgress,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    PolicyNotFound,
    ReleaseNotFound,
)
from darkroom.manifest import EngineManifest, resolve
from darkroom.release.state import Traffic
from darkroom.release.storage import StoredRelease
from darkroom.scaling.storage import StoredPolicy
from functions import events, observability, submission, uploads, wiring
from functions.answers import JSON, Answer, Answers, job_path
from functions.documents import ModelDocument, ModelList, model_document
from functions.observability import count, logger
from functions.wiring import Wiring

Event = dict[str, Any]
Handler = Callable[..., Response[str]]

app = APIGatewayHttpResolver()
# Imported where it is used: scaling, releases, documentation, docs_page. Cold start pays for what is imported here.


@observability.traced
def lambda_handler(event: Event, context: Any, *, wired: Wiring | None = None) -> dict[str, Any]:
    """Answer one API Gateway (HTTP API, payload 2.0) event; `wired` replaces what the environment describes."""
    request_id = str(event["requestContext"]["requestId"])
    app.context.update(wired=wired, request_id=request_id)
    try:
        answer = app.resolve({**event, "rawPath": unquote(event["rawPath"])}, context)
    finally:
        observability.flush()
    answer["headers"]["X-Request-Id"] = request_id
    return answer


# ---- predict ------------------------------------------------------------------------------------------------------


def predict(name: str) -> Response[str]:
    """POST /v1/models/{model}:predict"""
    return _predict(name, curl_default=False)


def predict_as_the_seeds_do(name: str) -> Response[str]:
    """POST /tione/v1/models/m:predict"""
    return _predict(name, curl_default=True)


def _predict(name: str, *, curl_default: bool) -> Response[str]:
    wired, headers = _wired(), _headers()
    tenant = wired.tenant(app.current_event.raw_event, headers)
    body = submission.body_of(
        app.current_event.raw_event, headers, wired.settings.max_body_bytes, curl_default=curl_default
    )
    asked = submission.request_of(body)
    preference = submission.preference_of(headers, wired.settings)
    manifest = wired.manifests.current(_model(name))
    idempotency = submission.idempotency_of(headers, manifest.model, asked)
    request = uploads.without_data(resolve(asked, manifest), tenant, wired.store)
    accepted = wired.jobs.create(manifest.model, request, tenant=tenant, idempotency=idempotency)
    job = accepted.job
    if accepted.replayed and not job.status.finished:
        return _in_progress(job)
    if not accepted.replayed:
        count("JobsAccepted")
        job = _handed_over(wired, job)
    return _respond(_answers().predicted(wired.wait(job, preference.wait), preference))


def _handed_over(wired: Wiring, job: Job) -> Job:
    try:
        return wired.inference.submit(job)
    except DarkroomError as error:  # nobody works on it, so nobody else will end it
        wired.jobs.settle(job.id, error.problem())
        raise


def _in_progress(job: Job) -> Response[str]:
    problem = IdempotencyInProgress("Ask again, or follow the job at Location.", retry_after=1)
    return _respond(_answers().problem(problem, {"Location": job_path(job)}))


def grant_upload() -> Response[str]:
    """POST /v1/uploads"""
    wired, tenant = _wired(), _tenant()
    asked = uploads.asked_for(app.current_event.raw_event, _headers(), wired.settings)
    return _respond(Answer(201, uploads.grant(asked, tenant, wired.store, wired.settings)))


# ---- jobs ---------------------------------------------------------------------------------------------------------


def get_job(job_id: str) -> Response[str]:
    """GET /v1/jobs/{id}"""
    return _respond(_answers().job(_wired().jobs.get(job_id, tenant=_tenant())))


def get_job_events(job_id: str) -> Response[str]:
    """GET /v1/jobs/{id}/events: the state at this moment; on one machine the edge goes on from here."""
    job = _wired().jobs.get(job_id, tenant=_tenant())
    told = events.snapshot(_answers().document(job))
    return Response(200, events.EVENT_STREAM, told, {"Cache-Control": "no-store"})


def cancel_job(job_id: str) -> Response[str]:
    """DELETE /v1/jobs/{id}"""
    wired = _wired()
    job = wired.jobs.cancel(job_id, tenant=_tenant())
    wired.inference.withdraw(job)
    return _respond(_answers().cancelled(job))


# ---- models -------------------------------------------------------------------------------------------------------


def list_models() -> Response[str]:
    """GET /v1/models"""
    _tenant()
    manifests = _wired().manifests
    found = [_model_document(manifests.current(name)) for name in manifests.names()]
    return _respond(Answer(200, ModelList(models=found)))


def get_model(name: str) -> Response[str]:
    """GET /v1/models/{model}"""
    _tenant()
    return _respond(Answer(200, _model_document(_wired().manifests.current(_model(name)))))


def _model_document(manifest: EngineManifest) -> ModelDocument:
    return model_document(manifest, default=manifest.model == _wired().settings.default_model)


# ---- scaling ------------------------------------------------------------------------------------------------------


def get_scaling_policy(name: str) -> Response[str]:
    """GET /v1/models/{model}/scaling-policy"""
    return _policy(200, _stored_policy(name))


def put_scaling_policy(name: str) -> Response[str]:
    """PUT /v1/models/{model}/scaling-policy"""
    from functions import scaling

    wired, headers, tenant = _wired(), _headers(), _tenant()
    model = wired.manifests.current(_model(name)).model
    document = scaling.document_of(app.current_event.raw_event, headers)
    stored = wired.policies.put(model, document, by=tenant, when=scaling.condition_of(headers))
    logger.info("scaling policy changed", model=model, version=stored.version, tenant=tenant)
    return _policy(200 if stored.replaces else 201, stored)


def delete_scaling_policy(name: str) -> Response[str]:
    """DELETE /v1/models/{model}/scaling-policy"""
    from functions import scaling

    tenant, model = _tenant(), _wired().manifests.current(_model(name)).model
    _wired().policies.delete(model, by=tenant, when=scaling.condition_of(_headers()))
    logger.info("scaling policy deleted", model=model, tenant=tenant)
    return Response(204, None, None)


def get_scaling_changes(name: str) -> Response[str]:
    """GET /v1/models/{model}/scaling-policy/changes"""
    from functions import scaling

    _tenant()
    model = _wired().manifests.current(_model(name)).model
    return _respond(Answer(200, scaling.changes_document(_wired().policies.history(model))))


def get_scaling_plan(name: str) -> Response[str]:
    """GET /v1/models/{model}/scaling-plan"""
    from functions import scaling

    asked = app.current_event.query_string_parameters or {}
    return _respond(Answer(200, scaling.plan_document(_stored_policy(name), asked, datetime.now(UTC))))


def _stored_policy(name: str) -> StoredPolicy:
    _tenant()
    stored = _wired().policies.get(_wired().manifests.current(_model(name)).model)
    if stored is None:
        raise PolicyNotFound("This model has no scaling policy; PUT one.")
    return stored


def _policy(status: int, stored: StoredPolicy) -> Response[str]:
    return Response(status, JSON, json.dumps(stored.document), {"ETag": stored.etag, "Cache-Control": "no-cache"})


# ---- releases -----------------------------------------------------------------------------------------------------


def get_release(name: str) -> Response[str]:
    """GET /v1/models/{model}/release"""
    from functions import releases

    _tenant()
    return _release(200, releases.known(_wired().releases, _wired().manifests.current(_model(name)).model))


def put_release(name: str) -> Response[str]:
    """PUT /v1/models/{model}/release"""
    from functions import releases

    wired, headers, tenant = _wired(), _headers(), _tenant()
    model = wired.manifests.current(_model(name)).model
    releases.known(wired.releases, model)
    event = app.current_event.raw_event
    return _ask_release(model, releases.asked_for(event, headers, model, wired.manifests, wired.settings), tenant)


def roll_back(name: str) -> Response[str]:
    """POST /v1/models/{model}/rollback"""
    from functions import releases

    tenant, model = _tenant(), _wired().manifests.current(_model(name)).model
    return _ask_release(model, releases.rollback_of(releases.known(_wired().releases, model)), tenant)


def get_release_changes(name: str) -> Response[str]:
    """GET /v1/models/{model}/release/changes"""
    from functions import releases

    _tenant()
    store, model = _wired().releases, _wired().manifests.current(_model(name)).model
    releases.known(store, model)
    return _respond(Answer(200, releases.changes_document(store.history(model) if store else [])))


def _ask_release(model: str, traffic: Traffic, tenant: str) -> Response[str]:
    from functions import scaling

    store = _wired().releases
    if store is None:
        raise ReleaseNotFound
    asked = store.ask(model, traffic, by=tenant, when=scaling.condition_of(_headers()))
    logger.info("release asked for", model=model, traffic=str(traffic), tenant=tenant)
    return _release(202, asked)


def _release(status: int, stored: StoredRelease) -> Response[str]:
    from functions import releases

    headers = {"ETag": stored.etag, "Cache-Control": "no-cache"}
    return _respond(Answer(status, releases.document(stored), headers))


# ---- the deployment -----------------------------------------------------------------------------------------------


def ping() -> Response[str]:
    """GET /ping"""
    health = _wired().health()
    return _respond(Answer(200 if health.status == "ready" else 503, health))


def openapi() -> Response[str]:
    """GET /openapi.json"""
    from functions import documentation

    return Response(200, JSON, documentation.openapi(), {"Cache-Control": "max-age=3600"})


def docs() -> Response[str]:
    """GET /docs"""
    from functions import docs_page

    return Response(200, "text/html; charset=utf-8", docs_page.page(), {"Cache-Control": "max-age=3600"})


# ---- routing ------------------------------------------------------------------------------------------------------

READ = ("GET", "HEAD")
ROUTES: list[tuple[str, dict[tuple[str, ...], Handler]]] = [
    ("/v1/models/<name>:predict", {("POST",): predict}),
    ("/tione/v1/models/<name>:predict", {("POST",): predict_as_the_seeds_do}),
    ("/v1/uploads", {("POST",): grant_upload}),
    ("/v1/models", {READ: list_models}),
    ("/v1/models/<name>", {READ: get_model}),
    (
        "/v1/models/<name>/scaling-policy",
        {READ: get_scaling_policy, ("PUT",): put_scaling_policy, ("DELETE",): delete_scaling_policy},
    ),
    ("/v1/models/<name>/scaling-policy/changes", {READ: get_scaling_changes}),
    ("/v1/models/<name>/scaling-plan", {READ: get_scaling_plan}),
    ("/v1/models/<name>/release", {READ: get_release, ("PUT",): put_release}),
    ("/v1/models/<name>/release/changes", {READ: get_release_changes}),
    ("/v1/models/<name>/rollback", {("POST",): roll_back}),
    ("/v1/jobs/<job_id>", {READ: get_job, ("DELETE",): cancel_job}),
    ("/v1/jobs/<job_id>/events", {READ: get_job_events}),
    ("/ping", {READ: ping}),
    (r"/openapi\.json", {READ: openapi}),
    ("/docs", {READ: docs}),
]
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _register() -> None:
    """Every route, and for its other methods an answer that names the ones it has. The first match wins."""
    app.exception_handler(DarkroomError)(answer_error)
    app.exception_handler(NotFoundError)(answer_unknown_address)
    app.exception_handler(Exception)(answer_unexpected)
    for rule, handlers in ROUTES:
        allowed = [method for methods in handlers for method in methods]
        for methods, handler in handlers.items():
            app.route(rule, list(methods), compress=handler is docs)(handler)
        app.route(rule, [method for method in _METHODS if method not in allowed])(_refuse(allowed))


def _refuse(allowed: list[str]) -> Handler:
    def refuse(**_: str) -> Response[str]:
        return _respond(_answers().problem(MethodNotAllowed(), {"Allow": ", ".join(allowed)}))

    return refuse


def answer_error(error: DarkroomError) -> Response[str]:
    count(f"Problem.{error.code}")
    return _respond(_answers().problem(error))


def answer_unknown_address(_: NotFoundError) -> Response[str]:
    below_models = app.current_event.path.startswith(("/v1/models/", "/tione/v1/models/"))
    return _respond(
        _answers().problem(ModelNotFound("There is no model of this name.") if below_models else NotFound())
    )


def answer_unexpected(error: Exception) -> Response[str]:
    """What nobody foresaw: the log holds the traceback, the caller gets an id to ask about."""
    logger.error("unexpected error", exc_info=error, request_id=app.context["request_id"])
    count("Problem.internal")
    return _respond(_answers().problem(DarkroomError()))


# ---- this event ---------------------------------------------------------------------------------------------------


def _wired() -> Wiring:
    wired: Wiring | None = app.context.get("wired")
    return wired or wiring.from_environment()


def _answers() -> Answers:
    wired = _wired()
    return Answers(wired.store, wired.settings, app.context["request_id"])


def _headers() -> Mapping[str, str]:
    return {name.lower(): value for name, value in app.current_event.headers.items()}


def _tenant() -> str:
    return _wired().tenant(app.current_event.raw_event, _headers())


def _model(name: str) -> str:
    return _wired().settings.default_model if name == "m" else name


def _respond(answer: Answer) -> Response[str]:
    return Response(answer.status, answer.content_type, answer.body(), dict(answer.headers))


_register()
