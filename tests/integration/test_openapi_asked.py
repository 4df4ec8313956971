"""schemathesis asks what /openapi.json says: every operation, with what its schema allows and with what it does not.

All of its checks hold: no 500, answers as documented in status, type, headers and body; what the schema refuses is
refused, and what it allows is taken, but for what no schema can say.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import AcceptedNegativeData, FailureGroup
from schemathesis.openapi.checks import RejectedPositiveData

from api.app import ControlPlane
from api.openapi.document import OPERATIONS
from darkroom.contracts import Job
from darkroom.settings import Settings
from tests.fakes import api

_EXAMPLES = 15
# Rules about several members together, about this model, or about what a text holds.
_BEYOND_SCHEMAS = {
    *("image_source_conflict", "image_url_rejected", "invalid_base64", "image_too_large", "out_of_range"),
    *("invalid_dimensions", "invalid_policy", "invalid_unicode"),
}
_FORM = ("POST", "/v1/images/edits")  # a form has no null, and its files no schema


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with api.services(tmp_path_factory.mktemp("asked"), Settings(max_queued_jobs=100_000)) as services:

        async def made_at_once(job: Job, _seconds: float) -> Job:
            return api.finish(services, job)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield schemathesis.openapi.from_asgi("/openapi.json", ControlPlane(replace(services, wait=made_at_once)))


def expected(failure: Any, answer: Any, operation: tuple[str, str]) -> bool:
    """Whether it is what no schema can say."""
    if isinstance(failure, AcceptedNegativeData):
        return bool(answer.status_code == 413)
    if not isinstance(failure, RejectedPositiveData):
        return False
    said = json.loads(answer.content)
    error = said.get("error")  # OpenAI's form, the web UI's, or ours
    code = error["code"] if isinstance(error, dict) else error or said["code"]
    about = (error if isinstance(error, dict) else said).get("param") or said.get("field") or said.get("detail", "")
    beyond = code == "invalid_parameter" and (about.strip("/") == "sampler" or "scripts" in about)
    return operation == _FORM or beyond or code in _BEYOND_SCHEMAS


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "refused"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_the_server_does_what_the_document_says(schema: Any, operation: tuple[str, str], mode: Any) -> None:
    method, path = operation

    @seed(1)
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call()
        try:
            case.validate_response(answer)
        except FailureGroup as found:
            unexpected = [one for one in found.exceptions if not expected(one, answer, operation)]
            assert not unexpected, (case.as_curl_command(), answer.content[:500], unexpected)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing can be asked"
