"""Rows 31 to 50 from end to end: strangers' images through the whole deployment, with the real runtime.

The runtime may fetch from one address only, which the tests' own server has; every other one is refused by default.
"""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.fakes import pictures
from tests.fakes.deployment import RUNTIME, Running, running
from tests.fakes.pictures import file, quarters
from tests.fakes.remote import Remote, serving

PREDICT = "/v1/models/tiny:predict"
KEYS = {"x-api-key": "a"}
WORDS = ("traceback", "exception", "pydantic", "pillow", "httpcore", "/home", "127.0.0.1", "169.254", "what-it-says")


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with serving() as remote:
        yield remote


@pytest.fixture(scope="module")
def trap() -> Iterator[Remote]:
    """A server that nobody allowed: whoever connects to it has left tracks."""
    with serving() as trap:
        yield trap


@pytest.fixture(scope="module")
def deployment(remote: Remote, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {
        "RUNTIME_FETCH_ALLOW": f"127.0.0.1:{remote.port}",
        "RUNTIME_FETCH_SECONDS": "3",
        "RUNTIME_MAX_IMAGE_BYTES": "100000",
        "RUNTIME_THREADS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        asked: dict[str, Any] = {"default_model": "tiny", "api_keys": "alice=a,bob=b", "max_wait_seconds": 900}
        with running(
            tmp_path_factory.mktemp("images"), program=RUNTIME, bundle_store=tiny_store, **asked
        ) as deployment:
            yield deployment


def predict(deployment: Running, image: Any, key: str = "a", **asked: Any) -> httpx.Response:
    body = {"prompt": "a cat", "num_inference_steps": 2, "strength": 0.5, "seed": 1, "image": image, **asked}
    return deployment.client.post(PREDICT, json=body, headers={"x-api-key": key, "Prefer": "wait=600"})


def refused(answer: httpx.Response, code: str, field: str = "/image") -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, code, field), problem
    assert answer.headers["content-type"] == "application/problem+json"
    told = json.dumps({name: value for name, value in problem.items() if name != "request_id"}).lower()
    assert not any(word in told for word in WORDS)


def made(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(httpx.get(answer.json()["image"]).content))


def uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


# ---- URLs ---------------------------------------------------------------------------------------------------------


def test_an_image_that_may_be_fetched(deployment: Running, remote: Remote) -> None:
    remote.serves("/a.png", file(quarters()))
    assert made(predict(deployment, f"http://127.0.0.1:{remote.port}/a.png")).size == (64, 48)
    remote.redirects("/b.png", "/a.png")
    assert made(predict(deployment, f"http://127.0.0.1:{remote.port}/b.png")).size == (64, 48)


@pytest.mark.parametrize("host", ["169.254.169.254", "localhost", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]"])  # noqa: S104
def test_row_31_an_address_of_our_own(deployment: Running, trap: Remote, host: str) -> None:
    refused(predict(deployment, f"http://{host}:{trap.port}/"), "image_url_rejected")
    refused(predict(deployment, f"https://{host}/"), "image_url_rejected")
    assert trap.connections == 0


def test_row_38_a_redirect_to_a_port_that_nobody_allowed(deployment: Running, remote: Remote, trap: Remote) -> None:
    remote.redirects("/there", f"http://127.0.0.1:{trap.port}/")
    refused(predict(deployment, f"http://127.0.0.1:{remote.port}/there"), "image_url_rejected")
    assert trap.connections == 0


def test_row_40_a_remote_error(deployment: Running, remote: Remote) -> None:
    remote.serves("/broken", b"what-it-says", status="500 what-it-says")
    refused(predict(deployment, f"http://127.0.0.1:{remote.port}/broken"), "image_fetch_failed")


def test_row_41_a_body_without_end(deployment: Running, remote: Remote) -> None:
    remote.answers["/endless"] = lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b"x" * 65536))
    refused(predict(deployment, f"http://127.0.0.1:{remote.port}/endless"), "image_too_large")


def test_row_42_and_nobody_waits_for_who_is_slow(deployment: Running, remote: Remote) -> None:
    """A server that goes silent: one total deadline, and requests beside it are served as if it were not there."""
    alone = made(predict(deployment, uri(file(quarters())))).tobytes()
    asked, answered = threading.Event(), threading.Event()

    def silent() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        asked.set()
        answered.wait(60)

    remote.answers["/silent"] = silent
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(predict, deployment, f"http://127.0.0.1:{remote.port}/silent")
        assert asked.wait(60)
        assert made(predict(deployment, uri(file(quarters())))).tobytes() == alone
        refused(slow.result(), "image_fetch_timeout")
        answered.set()


def test_row_43_identity_only(deployment: Running, remote: Remote) -> None:
    remote.serves("/packed", gzip.compress(bytes(10**7)), "Content-Encoding: gzip")
    refused(predict(deployment, f"http://127.0.0.1:{remote.port}/packed"), "image_fetch_failed")


def test_row_44_a_decompression_bomb(deployment: Running, remote: Remote) -> None:
    bomb = pictures.bomb()
    remote.serves("/bomb", bomb)
    refused(predict(deployment, f"http://127.0.0.1:{remote.port}/bomb"), "image_too_large")
    refused(predict(deployment, uri(bomb)), "image_too_large")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (file(quarters(), "JPEG")[:400], "image_invalid"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_format_unsupported"),
        (pictures.animation("PNG"), "image_animated"),
        (pictures.animation("GIF"), "image_animated"),
        (file(Image.new("RGB", (1, 1))), "invalid_dimensions"),
    ],
)
def test_rows_45_to_49_bad_files(deployment: Running, data: bytes, code: str) -> None:
    refused(predict(deployment, uri(data)), code)
    refused(predict(deployment, uri(file(quarters())), mask=uri(data)), code, "/mask")


@pytest.mark.parametrize("image", [quarters().convert("CMYK"), quarters().convert("RGB")])
def test_row_47_a_jpeg_of_any_colours(deployment: Running, image: Image.Image) -> None:
    assert made(predict(deployment, uri(file(image, "JPEG"), "jpeg"))).size == (64, 48)


def test_row_50_base64_and_sources(deployment: Running) -> None:
    refused(predict(deployment, "data:image/png;base64,abc"), "invalid_base64")
    refused(predict(deployment, uri(file(quarters())), mask="data:image/png;base64,%"), "invalid_base64", "/mask")
    refused(predict(deployment, "data:text/html;base64,QUJD"), "image_url_rejected")
    refused(predict(deployment, None), "image_source_conflict")  # strength without an image
    both = {"prompt": "a", "image": uri(file(quarters())), "control": {"image": uri(file(quarters()))}}
    refused(deployment.client.post(PREDICT, json=both, headers=KEYS), "image_source_conflict")


# ---- uploads ------------------------------------------------------------------------------------------------------


def test_an_upload_is_an_image_of_its_tenant_only(deployment: Running) -> None:
    data = file(quarters())
    told = deployment.client.post("/v1/uploads", json={"size": len(data)}, headers=KEYS).json()
    early = predict(deployment, told["upload"])
    refused(early, "upload_not_found")
    assert httpx.put(told["url"], content=data, headers=told["headers"]).status_code == 200
    assert made(predict(deployment, told["upload"])).size == (64, 48)
    anothers = predict(deployment, told["upload"], key="b")
    refused(anothers, "upload_not_found")
    assert anothers.json()["detail"] == early.json()["detail"]


def test_a_job_carries_a_reference_and_not_the_image(deployment: Running) -> None:
    data = uri(file(quarters()))
    answer = predict(deployment, data)
    job = deployment.client.get(f"/v1/jobs/{answer.json()['id']}", headers=KEYS)
    assert job.json()["request"]["image"].startswith("upload:")
    assert data.partition(",")[2] not in job.text
    assert made(predict(deployment, job.json()["request"]["image"])).tobytes() == made(answer).tobytes()


# ---- whatever comes -----------------------------------------------------------------------------------------------

PNG = file(quarters(16, 16))
HOSTS = st.sampled_from(["127.0.0.1", "localhost", "[::1]", "0", "10.1", "a.internal", "x" * 300, "a..b", "é.example"])
URLS = st.builds("{}://{}{}".format, st.sampled_from(["http", "https", "file", "HTTPS"]), HOSTS, st.text(max_size=5))
DAMAGED = st.builds(
    lambda place, byte, cut: uri((PNG[:place] + bytes([byte]) + PNG[place + 1 :])[: cut or None]),
    st.integers(0, len(PNG) - 1),
    st.integers(0, 255),
    st.integers(0, len(PNG)),
)
ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.lists(st.text(), max_size=2)
    | st.text().map("data:image/png;base64,".__add__)
    | st.text().map("upload:".__add__)
    | URLS
    | DAMAGED
)


@settings(max_examples=150)
@given(image=ANYTHING, mask=st.none() | ANYTHING)
def test_nothing_that_is_said_to_be_an_image_breaks_anything(deployment: Running, image: Any, mask: Any) -> None:
    """Made, or refused as the caller's mistake; never our fault, and the next request is served."""
    body = {"prompt": "a cat", "num_inference_steps": 1, "image": image, "mask": mask}
    text = json.dumps(body).encode()
    answer = deployment.client.post(PREDICT, content=text, headers={**KEYS, "Content-Type": "application/json"})
    assert answer.status_code in (200, 422), answer.text
    assert "\n" not in answer.json().get("detail", "")


def test_after_all_that_the_runtime_is_the_same_one(deployment: Running) -> None:
    assert deployment.client.get("/ping").json() == {"status": "ready"}
    assert [replica.restarts for replica in deployment.deployment.pool.replicas] == [0]
    counts = deployment.deployment.jobs.counts()
    assert not [status for status, jobs in counts.items() if jobs and not status.finished]
