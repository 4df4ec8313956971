"""What the routes call, as the settings of a deployment choose it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from api import services
from darkroom.inference import QueuedInference
from darkroom.inference.sagemaker import SageMakerAsync, SageMakerRealTime
from darkroom.jobs.sql import SqlJobStore
from darkroom.settings import Settings
from tests.fakes.api import Log

ENDPOINTS = {"endpoints": "crayon=darkroom-crayon", "async_url": "s3://images/async"}


@pytest.fixture
def jobs(tmp_path: Path) -> SqlJobStore:
    return SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, QueuedInference),
        (ENDPOINTS, SageMakerAsync),
        ({**ENDPOINTS, "endpoint_type": "real-time"}, SageMakerRealTime),
    ],
)
def test_where_jobs_are_handed_to(jobs: SqlJobStore, given: dict[str, str], kind: type) -> None:
    assert isinstance(services.inference(Settings.model_validate(given), jobs), kind)


def test_only_models_with_an_endpoint_are_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DARKROOM_STORE_URL", f"file://{tmp_path}")
    monkeypatch.setenv("DARKROOM_JOBS_URL", f"sqlite:///{tmp_path / 'jobs.db'}")
    monkeypatch.setenv("DARKROOM_ENDPOINTS", "crayon=darkroom-crayon")
    built = services.from_environment(Log())
    assert built.manifests.names() == []
    built.jobs.close()  # type: ignore[attr-defined]
    built.policies.close()


def test_importing_it_costs_no_client_of_aws() -> None:
    code = "import sys, api.services; print(sorted({'boto3', 'botocore', 'sqlalchemy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "[]"
