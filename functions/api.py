"""Every HTTP route, and those of images, jobs and models: parse, one call, answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from darkroom.contracts import Job
from darkroom.errors import (
    DarkroomError,
    IdempotencyInProgress,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
)
from darkroom.manifest import EngineManifest
from darkroom.resolving import resolve
from functions import current, events, observability, release_routes, scaling_routes, submission, uploads
from functions.answers import JSON, Answer, job_path
from functions.current import Event, app
from functions.documents import ModelDocument, ModelList, model_document
from functions.observability import count, logger
from functions.wiring import Wiring

Handler = Callable[..., Response[str]]
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
    wired, headers = current.wired(), current.headers()
    tenant = wired.tenant(current.event(), headers)
    body = submission.body_of(current.event(), headers, wired.settings.max_body_bytes, curl_default=curl_default)
    asked = submission.request_of(body)
    preference = submission.preference_of(headers, wired.settings)
    manifest = current.manifest(name)
    idempotency = submission.idempotency_of(headers, manifest.model, asked)
    request = uploads.without_data(resolve(asked, manifest), tenant, wired.store)
    accepted = wired.jobs.create(manifest.model, request, tenant=tenant, idempotency=idempotency)
    job = accepted.job
    if accepted.replayed and not job.status.finished:
        return _in_progress(job)
    if not accepted.replayed:
        count("JobsAccepted")
        job = _handed_over(wired, job)
    return current.respond(current.answers().predicted(wired.wait(job, preference.wait), preference))


def _handed_over(wired: Wiring, job: Job) -> Job:
    try:
        return wired.inference.submit(job)
    except DarkroomError as error:  # nobody works on it, so nobody else will end it
        wired.jobs.settle(job.id, error.problem())
        raise


def _in_progress(job: Job) -> Response[str]:
    problem = IdempotencyInProgress("Ask again, or follow the job at Location.", retry_after=1)
    return current.respond(current.answers().problem(problem, {"Location": job_path(job)}))


def grant_upload() -> Response[str]:
    """POST /v1/uploads"""
    wired, tenant = current.wired(), current.tenant()
    asked = uploads.asked_for(current.event(), current.headers(), wired.settings)
    return current.respond(Answer(201, uploads.grant(asked, tenant, wired.store, wired.settings)))


# ---- jobs ---------------------------------------------------------------------------------------------------------


def get_job(job_id: str) -> Response[str]:
    """GET /v1/jobs/{id}"""
    return current.respond(current.answers().job(current.wired().jobs.get(job_id, tenant=current.tenant())))


def get_job_events(job_id: str) -> Response[str]:
    """GET /v1/jobs/{id}/events: the state at this moment; on one machine the edge goes on from here."""
    job = current.wired().jobs.get(job_id, tenant=current.tenant())
    told = events.snapshot(current.answers().document(job))
    return Response(200, events.EVENT_STREAM, told, {"Cache-Control": "no-store"})


def cancel_job(job_id: str) -> Response[str]:
    """DELETE /v1/jobs/{id}"""
    wired = current.wired()
    job = wired.jobs.cancel(job_id, tenant=current.tenant())
    wired.inference.withdraw(job)
    return current.respond(current.answers().cancelled(job))


# ---- models -------------------------------------------------------------------------------------------------------


def list_models() -> Response[str]:
    """GET /v1/models"""
    current.tenant()
    manifests = current.wired().manifests
    found = [_model_document(manifests.current(name)) for name in manifests.names()]
    return current.respond(Answer(200, ModelList(models=found)))


def get_model(name: str) -> Response[str]:
    """GET /v1/models/{model}"""
    current.tenant()
    return current.respond(Answer(200, _model_document(current.manifest(name))))


def _model_document(manifest: EngineManifest) -> ModelDocument:
    return model_document(manifest, default=manifest.model == current.wired().settings.default_model)


# ---- the deployment -----------------------------------------------------------------------------------------------


def ping() -> Response[str]:
    """GET /ping"""
    health = current.wired().health()
    return current.respond(Answer(200 if health.status == "ready" else 503, health))


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
        {
            READ: scaling_routes.get,
            ("PUT",): scaling_routes.put,
            ("DELETE",): scaling_routes.delete,
        },
    ),
    ("/v1/models/<name>/scaling-policy/changes", {READ: scaling_routes.changes}),
    ("/v1/models/<name>/scaling-plan", {READ: scaling_routes.plan}),
    ("/v1/models/<name>/release", {READ: release_routes.get, ("PUT",): release_routes.put}),
    ("/v1/models/<name>/release/changes", {READ: release_routes.changes}),
    ("/v1/models/<name>/rollback", {("POST",): release_routes.roll_back}),
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
        return current.respond(current.answers().problem(MethodNotAllowed(), {"Allow": ", ".join(allowed)}))

    return refuse


def answer_error(error: DarkroomError) -> Response[str]:
    count(f"Problem.{error.code}")
    return current.respond(current.answers().problem(error))


def answer_unknown_address(_: NotFoundError) -> Response[str]:
    below_models = app.current_event.path.startswith(("/v1/models/", "/tione/v1/models/"))
    return current.respond(
        current.answers().problem(ModelNotFound("There is no model of this name.") if below_models else NotFound())
    )


def answer_unexpected(error: Exception) -> Response[str]:
    """What nobody foresaw: the log holds the traceback, the caller gets an id to ask about."""
    logger.error("unexpected error", exc_info=error, request_id=current.request_id())
    count("Problem.internal")
    return current.respond(current.answers().problem(DarkroomError()))


_register()
