"""Whose pages may change something here, and under which names."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.app import ControlPlane
from api.limits.origins import Origins
from darkroom.errors import DarkroomError
from darkroom.settings import Settings
from tests.fakes import api

OURS = ("img.example.com", "*.darkroom.test")


def verdict(method: str = "POST", hosts: tuple[str, ...] = OURS, **headers: str) -> str:
    try:
        Origins(hosts).check(method, headers)
    except DarkroomError as refused:
        return refused.code
    return "taken"


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "[::1]", "192.0.2.7"),
        *("img.example.com", "IMG.example.com:443", "img.example.com.", "a.darkroom.test", "a.b.darkroom.test"),
    ],
)
def test_hosts_that_are_us(host: str) -> None:
    assert verdict(host=host) == "taken"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "img.example.com.evil.example", "evilimg.example.com", "darkroom.test", "xdarkroom.test"),
        *("localhost.evil.example", "127.0.0.1.evil.example", "127.1", "0x7f000001", "2130706433"),
    ],
)
def test_hosts_that_are_somebody_else(host: str) -> None:
    assert verdict(host=host) == verdict("GET", host=host) == "host_not_allowed"


@pytest.mark.parametrize(
    "host", ["a b", "", "a/b", "me@localhost", "localhost:port", "[::1", "localhost:80:80", "\xe9"]
)
def test_what_is_no_host(host: str) -> None:
    assert verdict(host=host) == "malformed_request"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8080", "taken"),
        ("https://localhost:8080", "taken"),  # a proxy in front of us may speak TLS
        ("https://img.example.com", "taken"),
        ("http://localhost:3000", "origin_not_allowed"),  # another program of this machine
        ("http://evil.example", "origin_not_allowed"),
        ("http://evil.example/http://localhost:8080", "origin_not_allowed"),
        ("null", "origin_not_allowed"),
        ("", "origin_not_allowed"),
        ("http://[", "origin_not_allowed"),
    ],
)
def test_pages(origin: str, expected: str) -> None:
    assert verdict(host="localhost:8080", origin=origin) == expected
    assert verdict("DELETE", host="localhost:8080", origin=origin) == expected
    assert verdict("GET", host="localhost:8080", origin=origin) == "taken"  # it may look: it is not shown the answer


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://127.0.0.1:8080", "taken"),
        ("http://127.0.0.1:3000", "origin_not_allowed"),  # another program of this machine
        ("http://127.0.0.1", "origin_not_allowed"),
        ("null", "origin_not_allowed"),
        ("", "origin_not_allowed"),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080"])
def test_of_the_public_url_its_port_counts_too(host: str, origin: str, expected: str) -> None:
    for hosts in ([], [""]):
        verdict_of = Origins(hosts, "http://127.0.0.1:8080")
        try:
            verdict_of.check("POST", {"host": host, "origin": origin})
            found = "taken"
        except DarkroomError as refused:
            found = refused.code
        assert found == expected


def test_the_public_urls_name_is_ours() -> None:
    Origins([], "https://img.example.com/").check(
        "POST", {"host": "IMG.example.com.", "origin": "https://img.example.com"}
    )
    with pytest.raises(DarkroomError):
        Origins([], "https://img.example.com/").check("GET", {"host": "example.com"})


def test_any_name_is_not_any_page() -> None:
    assert verdict(hosts=("*",), host="evil.example") == "taken"
    assert verdict(hosts=("*",), host="localhost", origin="http://evil.example") == "origin_not_allowed"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[ControlPlane]:
    with api.services(tmp_path, origins=Origins(["darkroom.example"])) as services:
        yield ControlPlane(services)


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_every_address_is_guarded(app: ControlPlane) -> None:
    for path in ("/ping", "/v1/models", "/nowhere", "/docs"):
        assert problem(api.ask(app, "GET", path, headers={"host": "evil.example"})) == (421, "host_not_allowed")
    form = {"origin": "http://evil.example", "content-type": "application/x-www-form-urlencoded"}
    answer = api.ask(app, "POST", "/tione/v1/models/m:predict", '{"prompt": "a dog"}', headers=form)
    assert problem(answer) == (403, "origin_not_allowed")


def test_no_answer_is_taken_for_a_page(app: ControlPlane) -> None:
    for path in ("/ping", "/v1/models", "/nowhere", "/openapi.json", "/docs"):
        headers = api.ask(app, "GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]


def test_administrators(tmp_path: Path) -> None:
    settings = Settings(api_keys="ann=1,bob=2", admins="ann")
    path = "/v1/models/crayon/scaling-policy"
    with api.services(tmp_path, settings) as services:
        app = ControlPlane(services)
        for method, address in (("PUT", path), ("DELETE", path), ("GET", f"{path}/changes")):
            answer = api.ask(app, method, address, {"min": 0, "max": 1}, headers={"x-api-key": "2"})
            assert problem(answer) == (403, "administrator_needed"), address
        assert api.ask(app, "PUT", path, {"min": 0, "max": 1}, headers={"x-api-key": "1"}).status_code == 201
        assert api.ask(app, "GET", path, headers={"x-api-key": "2"}).status_code == 200  # all may know what holds


@pytest.mark.parametrize(
    ("given", "tenant", "expected"),
    [
        ({}, "default", True),  # nobody is told from another
        ({"api_keys": "ann=1"}, "ann", False),
        ({"api_keys": "ann=1", "admins": "bob, ann"}, "ann", True),
        ({"api_keys_secret": "arn:keys", "admins": "bob"}, "ann", False),
        ({"access": "jwt"}, "jwt:ann", False),
        ({"access": "jwt", "admins": "jwt:ann"}, "jwt:ann", True),
        ({"access": "iam", "admins": "ann"}, "iam:ann", False),
    ],
)
def test_who_is_an_administrator(given: dict[str, str], tenant: str, expected: bool) -> None:
    assert Settings(**given).is_administrator(tenant) is expected  # type: ignore[arg-type]
