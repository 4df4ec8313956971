"""`/v1/models`: what can be asked for."""

from __future__ import annotations

from starlette.responses import Response

from api.answers import answer
from api.call import Call
from api.schemas.models import ModelDocument, ModelList, model_document
from darkroom.bundles.manifest import EngineManifest


def list_all(call: Call) -> Response:
    """GET /v1/models"""
    manifests = call.services.manifests
    models = [_document(call, manifests.current(name)) for name in manifests.names()]
    return answer(200, ModelList(models=models, data=models))


def get(call: Call) -> Response:
    """GET /v1/models/{model}"""
    return answer(200, _document(call, call.manifest()))


def _document(call: Call, manifest: EngineManifest) -> ModelDocument:
    return model_document(manifest, default=manifest.model == call.services.settings.default_model)
