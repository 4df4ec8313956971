"""What AUTOMATIC1111's clients look up: models, samplers, settings, and all that there is none of here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from api import accepting, submission
from api.answers import JSON
from api.call import Call
from api.clients.a1111 import SAMPLERS, model_named
from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import Job, JobStatus
from darkroom.errors import InvalidParameter, InvalidType, JobNotFound

_NONE = (
    *("sd-vae", "upscalers", "latent-upscale-modes", "hypernetworks", "face-restorers", "realesrgan-models"),
    *("prompt-styles", "loras", "script-info"),
)
_NOTHING: dict[str, Any] = {
    **{name: [] for name in _NONE},
    "scripts": {"txt2img": [], "img2img": []},
    "embeddings": {"loaded": {}, "skipped": {}},
    "cmd-flags": {},
    "memory": {"ram": {}, "cuda": {}},
}


def _json(value: Any) -> Response:
    return Response(json.dumps(value), media_type=JSON)


def look(call: Call) -> Response:
    """GET of one of `LISTS` below /sdapi/v1."""
    return _json(LISTS[call.path.rpartition("/")[2]](call))


def set_options(call: Call) -> Response:
    """POST /sdapi/v1/options: nothing is kept for the next caller, so only what holds already can be set.

    Raises: InvalidType, InvalidParameter, ModelNotFound.
    """
    options = submission.json_body(call.body, call.headers)
    if not isinstance(options, dict):
        raise InvalidType("The options: an object is needed.")
    for name, value in options.items():
        if name != "sd_model_checkpoint" or not isinstance(value, str):
            detail = f"{name[:60]} cannot be set here; send it with each request, as override_settings."
            raise InvalidParameter(detail, field=f"/{name[:100]}")
        if call.manifest_of(model_named(value)).model != call.manifest_of("m").model:
            raise InvalidParameter("Name another model in each request, as override_settings.", field=f"/{name}")
    return _json(None)


def interrupt(call: Call) -> Response:
    """POST /sdapi/v1/interrupt: the caller's own jobs that are waited for here."""
    accepting.cancel(call.services, _jobs(call))
    return _json({})


def _jobs(call: Call) -> list[Job]:
    jobs = []
    for job_id in call.services.at_work.of(call.tenant):
        try:
            jobs.append(call.services.jobs.get(job_id, tenant=call.tenant))
        except JobNotFound:  # purged meanwhile
            continue
    return jobs


def _progress(call: Call) -> dict[str, Any]:
    jobs = [job for job in _jobs(call) if not job.status.finished]
    running = next((job for job in jobs if job.status is JobStatus.RUNNING), None)
    step, steps = (running.progress.step, running.progress.steps) if running else (0, 0)
    state = {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": running.id if running else "",
        "job_count": len(jobs),
        "job_timestamp": "0",
        "job_no": 0,
        "sampling_step": step,
        "sampling_steps": steps,
    }
    progress = step / steps if steps else 0.0
    return {"progress": progress, "eta_relative": 0.0, "state": state, "current_image": None, "textinfo": None}


def _models(call: Call) -> list[dict[str, Any]]:
    manifests = call.services.manifests
    return [_model(manifests.current(name)) for name in manifests.names()]


def _model(manifest: EngineManifest) -> dict[str, Any]:
    return {
        "title": manifest.model,
        "model_name": manifest.model,
        "hash": manifest.version,
        "sha256": None,
        "filename": manifest.model,
        "config": None,
    }


def _samplers(call: Call) -> list[dict[str, Any]]:
    names = call.manifest_of("m").samplers.names
    return [{"name": name, "aliases": [ours], "options": {}} for name, ours in SAMPLERS.items() if ours in names]


def _options(call: Call) -> dict[str, Any]:
    manifest = call.manifest_of("m")
    return {
        "sd_model_checkpoint": manifest.model,
        "sd_checkpoint_hash": manifest.version,
        "samples_format": "png",
        "CLIP_stop_at_last_layers": 1,
    }


_SCHEDULER = {
    "name": "automatic",
    "label": "Automatic",
    "aliases": None,
    "default_rho": -1.0,
    "need_inner_model": False,
}
LISTS: dict[str, Callable[[Call], Any]] = {
    "options": _options,
    "progress": _progress,
    "samplers": _samplers,
    "schedulers": lambda _call: [_SCHEDULER],
    "sd-models": _models,
    **{name: (lambda _call, value=value: value) for name, value in _NOTHING.items()},  # type: ignore[misc]
}
