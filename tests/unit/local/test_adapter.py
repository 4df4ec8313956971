"""An ASGI request as the event that API Gateway would have sent."""

import base64
from typing import Any

from local.adapter import to_event
from local.exchange import Exchange


def event(body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None, **scope: Any) -> dict[str, Any]:
    asked = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/models/crayon:predict",
        "raw_path": b"/v1/models/crayon%3Apredict",
        "query_string": b"",
        "client": ("192.0.2.1", 5000),
        "headers": headers or [],
        **scope,
    }
    return to_event(Exchange(asked, None, None), body)  # type: ignore[arg-type]


def test_an_event_has_what_payload_2_0_has() -> None:
    made = event(b"{}", [(b"Host", b"api.example"), (b"User-Agent", b"curl")])
    assert (made["version"], made["routeKey"], made["rawPath"]) == ("2.0", "$default", "/v1/models/crayon%3Apredict")
    assert (made["body"], made["isBase64Encoded"]) == ("{}", False)
    context = made["requestContext"]
    assert context["http"] == {
        "method": "POST",
        "path": "/v1/models/crayon:predict",
        "protocol": "HTTP/1.1",
        "sourceIp": "192.0.2.1",
        "userAgent": "curl",
    }
    assert (context["domainName"], context["stage"]) == ("api.example", "$default")
    assert "cookies" not in made


def test_no_body_is_none() -> None:
    assert event()["body"] is None


def test_bytes_that_are_not_text_are_encoded() -> None:
    made = event(b"\xff\x00")
    assert (base64.b64decode(made["body"]), made["isBase64Encoded"]) == (b"\xff\x00", True)


def test_query_parameters_are_decoded_and_joined() -> None:
    made = event(query_string=b"a=1&a=2&b=%20&c")
    assert made["rawQueryString"] == "a=1&a=2&b=%20&c"
    assert made["queryStringParameters"] == {"a": "1,2", "b": " ", "c": ""}
    assert event()["queryStringParameters"] is None


def test_cookies_are_a_list_of_their_own() -> None:
    made = event(headers=[(b"Cookie", b"a=1; b=2")])
    assert made["cookies"] == ["a=1", "b=2"]
    assert "cookie" not in made["headers"]


def test_a_server_without_raw_paths_and_client() -> None:
    made = event(raw_path=None, path="/v1/models/a b:predict", client=None)
    assert made["rawPath"] == "/v1/models/a%20b%3Apredict"
