"""The whole deployment on one machine; only the runtime process is a fake."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from httpx_sse import connect_sse

from tests.fakes.deployment import Running, running


@pytest.fixture(scope="module")
def module_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("deployment"), max_wait_seconds=900) as deployment:
        yield deployment


@pytest.fixture
def deployment(module_deployment: Running) -> Iterator[Running]:
    for left in module_deployment.directory.iterdir():
        left.unlink()
    yield module_deployment
    module_deployment.touch("go")


def events(text: str) -> list[tuple[str, dict[str, object]]]:
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "event" in block]


def test_the_seeds_line_answers_an_image(deployment: Running) -> None:
    typed = {"Content-Type": "application/x-www-form-urlencoded"}  # what `curl -d` says by itself
    answer = deployment.client.post("/tione/v1/models/m:predict", content='{"prompt": "a cute dog"}', headers=typed)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert next(iter(told)) == "image"
    assert told["images"] == [told["image"]]
    assert {"seed", "model", "version", "target", "request_id", "timings", "cache", "warnings", "id"} <= set(told)
    assert answer.headers["x-request-id"] == told["request_id"]
    picture = deployment.client.get(told["image"])
    assert picture.status_code == 200
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")


def test_an_image_url_is_signed(deployment: Running) -> None:
    url = deployment.predict("a dog").json()["image"]
    assert deployment.client.head(url).status_code == 200
    for forged in (
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.split("?")[0],
        url.replace("expires=1", "expires=2"),
    ):
        refused = deployment.client.get(forged)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert deployment.client.post(url).json()["code"] == "method_not_allowed"
    assert "private" in deployment.client.get(url).headers["cache-control"]


@pytest.mark.parametrize("path", ["/v1/models/crayon:predict", "/v1/models/crayon%3Apredict", "/v1/models/m:predict"])
def test_every_spelling_of_the_address(deployment: Running, path: str) -> None:
    assert deployment.client.post(path, json={"prompt": "a dog"}).status_code == 200


def test_four_images_have_four_urls(deployment: Running) -> None:
    told = deployment.predict("dogs", num_images=4, seed=7).json()
    assert len(set(told["images"])) == 4
    assert told["seed"] == 7


def test_a_caller_who_does_not_wait_gets_a_job(deployment: Running) -> None:
    answer = deployment.predict("hold a dog", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert answer.json()["status"] == "queued"
    job = answer.json()["id"]
    deployment.until(lambda: deployment.job(job)["status"] == "running")
    deployment.touch("go")
    told = deployment.finished(job)
    assert told["status"] == "succeeded"
    assert deployment.client.get(told["image"]).status_code == 200


def test_patience_that_ends_leaves_a_job(deployment: Running) -> None:
    answer = deployment.predict("hold a dog", headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    deployment.touch("go")
    assert deployment.finished(answer.json()["id"])["status"] == "succeeded"


def test_a_job_answers_with_fresh_urls(deployment: Running) -> None:
    told = deployment.predict("a dog").json()
    again = deployment.job(told["id"])
    assert deployment.client.get(again["image"]).status_code == 200
    assert again["request"]["seed"] == told["seed"]
    assert again["progress"] == {"step": 4, "steps": 4}


def test_a_failed_job_answers_its_problem(deployment: Running) -> None:
    answer = deployment.predict("fail:generation_invalid")
    assert answer.status_code == 500
    problem = answer.json()
    assert problem["code"] == "generation_invalid"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/problem+json"


def test_events_end_with_the_job(deployment: Running) -> None:
    job = deployment.submit("hold a dog")
    deployment.until(lambda: deployment.exists(f"held-{job}"))
    with deployment.client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = ""
        for chunk in stream.iter_text():
            text += chunk
            if "event: progress" in text:
                deployment.touch("go")
    told = events(text)
    assert [name for name, _ in told[:-1]] == ["progress"] * (len(told) - 1)
    assert any(data["preview"] for _, data in told[:-1])
    name, data = told[-1]
    assert name == "finished"
    assert data["status"] == "succeeded"
    assert data["image"]


def test_events_of_a_finished_job(deployment: Running) -> None:
    job = deployment.predict("a dog").json()["id"]
    answer = deployment.client.get(f"/v1/jobs/{job}/events")
    assert [name for name, _ in events(answer.text)] == ["finished"]


def test_events_of_nobodys_job(deployment: Running) -> None:
    answer = deployment.client.get("/v1/jobs/none/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_two_readers_of_the_same_events(deployment: Running) -> None:
    job = deployment.submit("hold a dog")
    path = f"/v1/jobs/{job}/events"
    with deployment.client.stream("GET", path) as first, deployment.client.stream("GET", path) as second:
        deployment.touch("go")
        for stream in (first, second):
            assert events("".join(stream.iter_text()))[-1][0] == "finished"


def test_a_finished_answer_is_replayed(deployment: Running) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = deployment.predict("a dog", headers=key)
    again = deployment.client.post(
        "/v1/models/crayon:predict",
        content='{ "prompt":\n"a dog"}',
        headers={**key, "Content-Type": "application/json"},
    )
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["seed"] == again.json()["seed"]
    assert deployment.made().count(first.json()["id"]) == 1


def test_a_keyed_request_outlives_its_connection(deployment: Running) -> None:
    body = b'{"prompt": "hold a dog"}'
    raw = (
        b"POST /v1/models/crayon:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Idempotency-Key: back-later\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body
    with socket.create_connection(("127.0.0.1", deployment.port)) as connection:
        connection.sendall(raw)
        (held,) = deployment.until(lambda: list(deployment.directory.glob("held-*")))
    deployment.touch("go")
    job = held.name.removeprefix("held-")
    assert deployment.finished(job)["status"] == "succeeded"
    answer = deployment.predict("hold a dog", headers={"Idempotency-Key": "back-later"})
    assert (answer.status_code, answer.json()["id"]) == (200, job)


def test_models(deployment: Running) -> None:
    (listed,) = deployment.client.get("/v1/models").json()["models"]
    assert listed == deployment.client.get("/v1/models/crayon").json()
    assert listed["default"] is True
    assert listed["samplers"] == ["ddim", "euler"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/nobody", 404, "job_not_found"),
        ("DELETE", "/v1/jobs/nobody", 404, "job_not_found"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
        ("GET", "/v1/models/crayon:predict", 405, "method_not_allowed"),
        ("PUT", "/v1/models/crayon", 405, "method_not_allowed"),
        ("POST", "/ping", 405, "method_not_allowed"),
        ("POST", "/", 404, "not_found"),
        ("GET", "/objects/images/none/0.png", 403, "forbidden"),
    ],
)
def test_every_refusal_is_a_problem(deployment: Running, method: str, path: str, status: int, code: str) -> None:
    answer = deployment.client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_documents_of_the_deployment(deployment: Running) -> None:
    client = deployment.client
    assert client.get("/ping").json() == {"status": "ready"}
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-encoding"] == "gzip"
    assert 'src="http' not in page.text


def test_the_studio_loads_nothing_from_afar_and_runs_nothing_inline(deployment: Running) -> None:
    page = deployment.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//", page.text)
    parts = re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^":]+)"', page.text)
    assert len(parts) == 2
    for name in parts:
        part = deployment.client.get(f"/{name}")
        assert part.status_code == 200
        assert part.headers["content-type"].startswith("text/")
        assert not re.search(r"@import|[:\s]url\(", part.text)


def test_metrics_count_what_happened(deployment: Running) -> None:
    deployment.predict("a dog")
    text = deployment.client.get("/metrics").text
    assert 'darkroom_http_answers_total{method="POST",status="200"}' in text
    assert 'darkroom_runtime_ready{replica="runtime-0"} 1.0' in text
    assert 'darkroom_jobs{status="succeeded"}' in text
    assert deployment.client.get("/metrics/runtime-0").text == "fake_runtime 1\n"
    assert deployment.client.get("/metrics/runtime-1").json()["code"] == "not_found"


def test_answers_do_not_mix_under_concurrency(deployment: Running) -> None:
    async def ask_all() -> list[tuple[int, int]]:

        async with httpx.AsyncClient(base_url=str(deployment.client.base_url), timeout=60) as client:
            answers = await asyncio.gather(
                *(
                    client.post("/v1/models/crayon:predict", json={"prompt": "a dog", "seed": seed})
                    for seed in range(40)
                )
            )
        return [(seed, answer.json()["seed"]) for seed, answer in enumerate(answers)]

    assert all(asked == told for asked, told in asyncio.run(ask_all()))


@pytest.mark.parametrize("said", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4,6-7", "bytes=", "x" * 500])
def test_a_range_that_is_none_is_not_heeded(deployment: Running, said: str) -> None:
    url = deployment.predict("a dog").json()["image"]
    whole = deployment.client.get(url).content
    answer = deployment.client.get(url, headers={"Range": said})
    assert (answer.status_code, answer.content) == (200, whole)


def test_ranges(deployment: Running) -> None:
    url = deployment.predict("a dog").json()["image"]
    whole = deployment.client.get(url).content
    for said, part in (("bytes=0-3", whole[:4]), ("bytes=4-", whole[4:]), ("bytes=-3", whole[-3:])):
        answer = deployment.client.get(url, headers={"Range": said})
        assert (answer.status_code, answer.content) == (206, part)
    beyond = deployment.client.get(url, headers={"Range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(whole)}"


def test_events_as_an_event_source_reads_them(tmp_path: Path) -> None:
    """httpx-sse, a client of its own: ids only grow, and who comes back with the last one hears of nothing twice."""
    with running(tmp_path) as deployment:
        job = deployment.submit("hold", num_inference_steps=6)
        path = f"/v1/jobs/{job}/events"
        with connect_sse(deployment.client, "GET", path) as stream:
            events = stream.iter_sse()
            seen = [next(events), next(events)]
        assert [event.event for event in seen] == ["progress", "progress"]
        assert (seen[0].retry, int(seen[1].id)) == (1000, 1)
        deployment.touch("go")
        with connect_sse(deployment.client, "GET", path, headers={"Last-Event-ID": seen[1].id}) as stream:
            rest = list(stream.iter_sse())
        steps = [int(event.id) for event in rest]
        assert steps == sorted(steps)
        assert min(steps) > 1
        assert (rest[-1].event, rest[-1].json()["status"]) == ("finished", "succeeded")
