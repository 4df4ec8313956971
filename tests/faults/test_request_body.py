"""Rows 1 to 30: what strangers send, as raw bytes through the whole deployment."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.deployment import RUNTIME, Running, running

PREDICT = "/v1/models/crayon:predict"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def alice_and_bob(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = "alice=alices-key,bob=bobs-key"
    with running(tmp_path_factory.mktemp("tenants"), api_keys=keys, max_wait_seconds=900) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("deployment"), max_wait_seconds=900) as deployment:
        yield deployment


@pytest.fixture
def deployment(whole: Running) -> Iterator[Running]:
    """Whatever came in, the process lives, is ready, has no job left over, and makes the next image."""
    (whole.directory / "go").unlink(missing_ok=True)
    yield whole
    whole.touch("go")
    assert whole.client.get("/ping").json() == {"status": "ready"}
    assert whole.predict("a dog after the fault").status_code == 200
    counts = whole.deployment.jobs.counts()
    assert not [status for status, jobs in counts.items() if jobs and not status.finished]


def post(
    deployment: Running,
    body: bytes,
    *headers: str,
    path: str = PREDICT,
    content_type: str | None = "application/json",
    length: int | None = None,
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers (lower case) and JSON of the answer to these very bytes."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {len(body) if length is None else length}",
        *([f"Content-Type: {content_type}"] if content_type else []),
        *headers,
    ]
    answer = deployment.exchange("\r\n".join([*lines, "", ""]).encode() + body)
    head, _, told = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return int(status.split()[1]), named, json.loads(told)


def refused(
    deployment: Running, body: bytes, status: int, code: str, *headers: str, field: str | None = None, **how: Any
) -> dict[str, str]:
    """Assert on the problem, and that nothing of the process shows in it; gives the answer's headers."""
    got, named, problem = post(deployment, body, *headers, **how)
    assert (got, problem["code"]) == (status, code), problem
    assert named["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "request_id", "retryable"} <= set(problem)
    assert problem["status"] == status
    assert problem["request_id"] == named["x-request-id"]
    assert problem.get("field") == field
    told = json.dumps(problem).lower()
    assert not any(
        word in told for word in ("traceback", "pydantic", "exception", "/work", "/home", ".py", "127.0.0.1")
    )
    return named


def a_dog_with(**asked: Any) -> bytes:
    return json.dumps({"prompt": "a dog", **asked}).encode()


# ---- the body itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b'{"prompt": }', b"prompt=a+dog", b"{'prompt': 'a dog'}", b"[1,]"])
def test_row_01_bad_json(deployment: Running, body: bytes) -> None:
    refused(deployment, body, 400, "malformed_json")


@pytest.mark.parametrize("tail", [b"x", b"{}", b"\0", b" 1"])
def test_row_02_trailing_bytes(deployment: Running, tail: bytes) -> None:
    refused(deployment, a_dog_with() + tail, 400, "malformed_json")


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_row_03_not_utf8(deployment: Running, text: bytes) -> None:
    refused(deployment, b'{"prompt": "' + text + b'"}', 400, "malformed_json")


def test_row_04_empty_body_and_null(deployment: Running) -> None:
    refused(deployment, b"", 400, "malformed_json")
    refused(deployment, b"   ", 400, "malformed_json")
    refused(deployment, b"null", 422, "invalid_parameter")
    refused(deployment, b"[]", 422, "invalid_parameter")
    refused(deployment, b"{}", 422, "invalid_parameter", field="/prompt")


@pytest.mark.parametrize("depth", [33, 100_000])
def test_row_05_too_deep(deployment: Running, depth: int) -> None:
    refused(deployment, b'{"prompt": ' + b"[" * depth + b"]" * depth + b"}", 400, "json_too_deep")


@pytest.mark.parametrize("body", [b'{"prompt": "a", "prompt": "b"}', b'{"prompt": "a", "x": {"y": 1, "y": 1}}'])
def test_row_06_duplicate_keys(deployment: Running, body: bytes) -> None:
    refused(deployment, body, 400, "duplicate_key")


@pytest.mark.parametrize("said", ["text/plain", "application/xml", "multipart/form-data", "application/jsonp", None])
def test_row_07_wrong_content_type(deployment: Running, said: str | None) -> None:
    refused(deployment, a_dog_with(), 415, "unsupported_media_type", content_type=said)


def test_row_07_a_charset_is_no_fault(deployment: Running) -> None:
    assert post(deployment, a_dog_with(), content_type="Application/JSON; charset=utf-8")[0] == 200


def test_row_08_over_the_cap_is_refused_before_it_is_read(deployment: Running) -> None:
    # Nothing of the body is ever sent: an answer can only come from the declared length.
    named = refused(deployment, b"", 413, "payload_too_large", length=10**9)
    assert named["connection"] == "close"


def test_row_08_over_the_cap_in_full(deployment: Running) -> None:
    limit = deployment.deployment.settings.max_body_bytes
    refused(deployment, b" " * (limit + 1), 413, "payload_too_large")


def test_row_08_over_the_cap_in_chunks(deployment: Running) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    chunks = deployment.deployment.settings.max_body_bytes // 0x10000 + 1
    answer = deployment.exchange(head.encode() + chunk * chunks + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"payload_too_large"' in answer


# ---- members ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"prompt": 5}', "/prompt"),
        (b'{"prompt": null}', "/prompt"),
        (b'{"prompt": ["a dog"]}', "/prompt"),
        (a_dog_with(width="64"), "/width"),
        (a_dog_with(num_images=1.5), "/num_images"),
        (a_dog_with(guidance_scale="7"), "/guidance_scale"),
        (a_dog_with(seed=[]), "/seed"),
    ],
)
def test_row_09_wrong_type(deployment: Running, body: bytes, field: str) -> None:
    refused(deployment, body, 422, "invalid_type", field=field)


@pytest.mark.parametrize("name", ["width", "num_inference_steps", "seed", "num_images", "guidance_scale"])
def test_row_10_bool_given_as_number(deployment: Running, name: str) -> None:
    refused(deployment, a_dog_with(**{name: True}), 422, "invalid_type", field=f"/{name}")


@pytest.mark.parametrize("name", ["steps", "Prompt", "__class__", "constrained-int", "a/b~c", "\u202e"])
def test_row_11_unknown_field(deployment: Running, name: str) -> None:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    refused(deployment, a_dog_with(**{name: 1}), 422, "unknown_field", field=pointer)


def test_row_11_an_unknown_field_is_not_echoed_at_length(deployment: Running) -> None:
    _, _, problem = post(deployment, a_dog_with(**{"x" * MEGABYTE: 1}))
    assert problem["code"] == "unknown_field"
    assert len(problem["field"]) <= 200


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_row_12_nan_and_infinity(deployment: Running, number: bytes) -> None:
    refused(deployment, b'{"prompt": "a dog", "guidance_scale": ' + number + b"}", 422, "not_finite")


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"9" * 5000])
def test_row_13_numbers_that_overflow(deployment: Running, number: bytes) -> None:
    refused(deployment, b'{"prompt": "a dog", "guidance_scale": ' + number + b"}", 422, "not_finite")


@pytest.mark.parametrize("text", [b"\\ud800", b"\\udc00", b"a\\ud83dz"])
def test_row_14_lone_surrogate(deployment: Running, text: bytes) -> None:
    refused(deployment, b'{"prompt": "' + text + b'"}', 422, "invalid_unicode", field="/prompt")


def test_row_15_nul_in_the_prompt(deployment: Running) -> None:
    refused(deployment, b'{"prompt": "a\\u0000dog"}', 422, "invalid_unicode", field="/prompt")


WORLD = ["🐶 👩‍👩‍👧", "كلب أحمر", "e\u0301 n\u0303", "\U0001f1e9\U0001f1ea", "\u202ea dog"]


@pytest.mark.parametrize("prompt", WORLD)
def test_row_16_text_of_the_whole_world(deployment: Running, prompt: str) -> None:
    assert post(deployment, json.dumps({"prompt": prompt}).encode())[0] == 200


def test_row_17_more_tokens_than_are_read(tiny_store: Path, tmp_path: Path) -> None:
    with running(tmp_path, program=RUNTIME, bundle_store=tiny_store, default_model=tiny_model(tiny_store)) as real:
        answer = real.client.post("/v1/models/m:predict", json={"prompt": "a dog " * 200, "num_inference_steps": 2})
    assert answer.status_code == 200, answer.text
    assert [warning["code"] for warning in answer.json()["warnings"]] == ["prompt_truncated"]


def tiny_model(store: Path) -> str:
    return next(path.parent.name for path in store.glob("models/*/current.json"))


def test_row_18_a_prompt_of_a_megabyte(deployment: Running) -> None:
    refused(deployment, a_dog_with(prompt="a" * MEGABYTE), 422, "prompt_too_long", field="/prompt")
    refused(deployment, a_dog_with(negative_prompt="a" * MEGABYTE), 422, "prompt_too_long", field="/negative_prompt")


@pytest.mark.parametrize("steps", [0, -1])
def test_row_19_no_steps(deployment: Running, steps: int) -> None:
    refused(deployment, a_dog_with(num_inference_steps=steps), 422, "out_of_range", field="/num_inference_steps")


@pytest.mark.parametrize("steps", [101, 10**9, 10**30])
def test_row_20_too_many_steps(deployment: Running, steps: int) -> None:
    refused(deployment, a_dog_with(num_inference_steps=steps), 422, "out_of_range", field="/num_inference_steps")


@pytest.mark.parametrize("images", [0, 9, 10**6])
def test_row_21_too_many_images(deployment: Running, images: int) -> None:
    refused(deployment, a_dog_with(num_images=images), 422, "out_of_range", field="/num_images")


@pytest.mark.parametrize("name", ["width", "height"])
@pytest.mark.parametrize("size", [65, 33, 7])
def test_row_22_not_a_multiple_of_eight(deployment: Running, name: str, size: int) -> None:
    refused(deployment, a_dog_with(**{name: size}), 422, "invalid_dimensions", field=f"/{name}")


@pytest.mark.parametrize("size", [0, -8, 8, 24, 136, 8192, 10**9])
def test_row_23_a_size_outside_the_profile(deployment: Running, size: int) -> None:
    refused(deployment, a_dog_with(width=size), 422, "invalid_dimensions", field="/width")


def test_row_23_too_many_pixels(deployment: Running) -> None:
    refused(deployment, a_dog_with(width=128, height=128), 422, "invalid_dimensions", field="/width")


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_row_24_seed_out_of_range(deployment: Running, seed: int) -> None:
    refused(deployment, a_dog_with(seed=seed), 422, "out_of_range", field="/seed")


@pytest.mark.parametrize(
    "name",
    ["other", "..", "../crayon", "%2e%2e%2fcrayon", "..%2f..%2fetc%2fpasswd", "cra%00yon", "a" * 300, "%ff", "M"],
)
def test_row_25_unknown_model(deployment: Running, name: str) -> None:
    refused(deployment, a_dog_with(), 404, "model_not_found", path=f"/v1/models/{name}:predict")
    refused(deployment, a_dog_with(), 404, "model_not_found", path=f"/tione/v1/models/{name}:predict")


@pytest.mark.parametrize("sampler", ["plms", "../ddim", "DDIM", "", "ddim/4"])
def test_row_25_unknown_sampler(deployment: Running, sampler: str) -> None:
    refused(deployment, a_dog_with(sampler=sampler), 422, "invalid_parameter", field="/sampler")


# ---- who asks, and how often --------------------------------------------------------------------------------------


def test_row_26_same_key_same_body(deployment: Running) -> None:
    first, again = (post(deployment, a_dog_with(), "Idempotency-Key: row-26") for _ in range(2))
    assert first[0] == again[0] == 200
    assert first[2]["id"] == again[2]["id"]
    assert first[2]["seed"] == again[2]["seed"]
    assert deployment.made().count(first[2]["id"]) == 1


def test_row_27_same_key_other_body(deployment: Running) -> None:
    assert post(deployment, a_dog_with(), "Idempotency-Key: row-27")[0] == 200
    refused(deployment, a_dog_with(seed=1), 422, "idempotency_key_reused", "Idempotency-Key: row-27")


def test_row_28_same_key_while_the_first_still_runs(deployment: Running) -> None:
    key, body = "Idempotency-Key: row-28", a_dog_with(prompt="hold a dog")
    accepted = post(deployment, body, key, "Prefer: respond-async")
    assert accepted[0] == 202
    named = refused(deployment, body, 409, "idempotency_in_progress", key)
    assert int(named["retry-after"]) > 0
    assert named["location"] == accepted[1]["location"]
    deployment.touch("go")
    assert deployment.finished(accepted[2]["id"])["status"] == "succeeded"
    assert post(deployment, body, key)[2]["id"] == accepted[2]["id"]


def test_row_29_another_tenants_key_or_job(alice_and_bob: Running) -> None:
    alice, bob, key = "x-api-key: alices-key", "Authorization: Bearer bobs-key", "Idempotency-Key: row-29"
    hers, his = (post(alice_and_bob, a_dog_with(), tenant, key)[2] for tenant in (alice, bob))
    assert hers["id"] != his["id"]
    as_bob = {"Authorization": "Bearer bobs-key"}
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = alice_and_bob.client.request(method, f"/v1/jobs/{hers['id']}{path}", headers=as_bob)
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    assert alice_and_bob.client.get(f"/v1/jobs/{his['id']}", headers=as_bob).status_code == 200


@pytest.mark.parametrize("header", ["x-api-key: wrong", "Authorization: Basic bobs-key", "x-api-key:", "X-Other: y"])
def test_row_29_nobodys_key(alice_and_bob: Running, header: str) -> None:
    named = refused(alice_and_bob, a_dog_with(), 401, "unauthorized", header)
    assert named["www-authenticate"] == "Bearer"


def test_row_30_the_job_store_is_down(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        database = tmp_path / "data" / "jobs.db"
        deployment.deployment.jobs.close()
        for file in (database, database.with_name("jobs.db-wal"), database.with_name("jobs.db-shm")):
            file.unlink(missing_ok=True)
        database.mkdir()
        named = refused(deployment, a_dog_with(), 503, "job_store_unavailable")
        assert int(named["retry-after"]) > 0
        assert deployment.client.get("/v1/jobs/any").status_code == 503
        ping = deployment.until(lambda: (told := deployment.client.get("/ping")).status_code == 503 and told)
        assert ping.json() == {"status": "unavailable", "detail": "The job store does not answer."}
        assert deployment.client.get("/live").json() == {"status": "live"}
        assert not deployment.made()
