"""The container's side of SageMaker's contract, kept by the real process; its port is the Dockerfile's to say."""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from runtime import process
from runtime.config import RuntimeConfig
from tests.integration.aws.conftest import PATIENCE_SECONDS, Account, started

LONG = {"prompt": "a red cat", "num_inference_steps": 100, "num_images": 4}
KILLED_AFTER = 30  # seconds between SageMaker's SIGTERM and its SIGKILL


@pytest.fixture
def mounted(tiny_store: Path, tmp_path: Path) -> Path:
    """What SageMaker puts at /opt/ml/model: the files of one version, not to be written to."""
    (version,) = (path.parent for path in tiny_store.glob("models/tiny/*/manifest.json"))
    folder = shutil.copytree(version, tmp_path / "model")
    folder.chmod(0o555)
    return folder


def test_a_mounted_bundle_is_served_and_images_are_uploaded(account: Account, mounted: Path) -> None:
    """No object store holds bundles here; the answer names objects that are in the bucket by then."""
    elsewhere = {"RUNTIME_STORE_URL": "s3://no-such-bucket", "RUNTIME_BUNDLE_DIR": str(mounted)}
    with started(account, **elsewhere) as running:
        assert httpx.get(f"{running.url}/ping", timeout=PATIENCE_SECONDS).json()["model"] == "tiny"
        body = {"id": "mounted", "request": {"prompt": "a red cat", "num_images": 2}}
        answer = httpx.post(f"{running.url}/invocations", json=body, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200
        keys = [image["key"] for image in answer.json()["images"]]
        assert keys == ["images/mounted/0.png", "images/mounted/1.png"]
        for key in keys:
            stored = account.client("s3").get_object(Bucket="images", Key=key)
            assert stored["ContentType"] == "image/png"
            assert stored["Body"].read().startswith(b"\x89PNG")


def test_sigterm_lets_an_invocation_end_with_its_images(account: Account, mounted: Path) -> None:
    variables = {"RUNTIME_BUNDLE_DIR": str(mounted), "RUNTIME_LOG_LEVEL": "debug", "RUNTIME_DRAIN_SECONDS": "50"}
    with ThreadPoolExecutor(1) as caller, started(account, **variables) as running:
        asked = {"id": "drained", "request": LONG}
        answer = caller.submit(
            httpx.post, f"{running.url}/invocations", json=asked, timeout=PATIENCE_SECONDS, trust_env=False
        )
        running.told("step")
        running.process.send_signal(signal.SIGTERM)
        running.told("draining")
        assert answer.result().status_code == 200
        assert running.process.wait(PATIENCE_SECONDS) == 0
    stored = account.client("s3").list_objects_v2(Bucket="images", Prefix="images/drained/")
    assert stored["KeyCount"] == LONG["num_images"]


def test_draining_is_over_before_sagemaker_kills() -> None:
    config = RuntimeConfig()
    assert config.drain_seconds == 25
    assert config.drain_seconds + process._FLUSH_SECONDS + process._LAST_STEP_SECONDS < KILLED_AFTER
