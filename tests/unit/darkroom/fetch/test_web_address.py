"""One strict reading of a URL."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import ImageUrlRejected
from darkroom.fetch.web_address import WebAddress, parse


@pytest.mark.parametrize(
    ("url", "host", "target", "authority"),
    [
        ("https://Images.Example/A.png", "images.example", "/A.png", "images.example"),
        ("https://images.example", "images.example", "/", "images.example"),
        ("https://images.example?a=b", "images.example", "/?a=b", "images.example"),
        ("HTTPS://images.example:443/a%20b/?q=/?&", "images.example", "/a%20b/?q=/?&", "images.example"),
        ("https://a_b.s3.amazonaws.com/k?X-Amz-Signature=ab#x", "a_b.s3.amazonaws.com", "/k?X-Amz-Signature=ab", None),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "/", None),
        ("https://93.184.216.34/", "93.184.216.34", "/", None),
        ("https://[2606:2800:0220:1::0001]/", "2606:2800:220:1::1", "/", "[2606:2800:220:1::1]"),
    ],
)
def test_parts(url: str, host: str, target: str, authority: str | None) -> None:
    address = parse(url)
    assert (address.scheme, address.port) == ("https", 443)
    assert (address.host, address.target, address.authority) == (host, target, authority or host)


def test_http_is_its_own_port() -> None:
    assert parse("http://images.example/", http=True).port == 80
    with pytest.raises(ImageUrlRejected):
        parse("http://images.example:443/", http=True)
    with pytest.raises(ImageUrlRejected):
        parse("https://images.example:80/", http=True)


def test_trusted_pairs_are_compared_as_they_are_spelled_canonically() -> None:
    trusted = ["127.0.0.1:8000", "[::1]:8000", "minio:9000", "images.internal:80"]
    for url in ("http://127.0.0.1:8000/", "https://127.0.0.1:8000/", "http://[0::1]:8000/", "http://MINIO:9000/"):
        assert parse(url, trusted=trusted).trusted
    assert parse("http://images.internal/", trusted=trusted).authority == "images.internal"
    assert parse("http://[::1]:8000/", trusted=trusted).authority == "[::1]:8000"
    with pytest.raises(ImageUrlRejected):
        parse("http://2130706433:8000/", trusted=trusted)


@given(st.text() | st.text("https:/.@\\[]%#?a1é ", max_size=30).map("https://".__add__))
def test_any_text_is_read_in_one_way_or_refused(url: str) -> None:
    try:
        address = parse(url)
    except ImageUrlRejected:
        return
    split = urlsplit(url)
    assert isinstance(address, WebAddress)
    assert (split.scheme, split.username, split.password) == ("https", None, None)
    assert (split.hostname or "") == address.host or address.literal is not None
    assert (split.path or "/") == address.target.partition("?")[0]


def test_nothing_is_trusted_and_http_is_refused_unless_told() -> None:
    assert not parse("https://images.example/").trusted
    for url in ("http://images.example/", "http://images.example:80/"):
        with pytest.raises(ImageUrlRejected, match="Only https:// URLs are fetched"):
            parse(url)
    with pytest.raises(ImageUrlRejected, match="Only https:// URLs are fetched"):
        parse("ftp://images.example/", http=True)


def test_a_url_has_4096_characters_at_most() -> None:
    start = "https://images.example/"
    assert parse(start + "a" * (4096 - len(start))).target.endswith("a")
    with pytest.raises(ImageUrlRejected, match="at most 4096 ASCII characters"):
        parse(start + "a" * (4097 - len(start)))


def test_a_name_has_253_characters_at_most() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(longest) == 253
    assert parse(f"https://{longest}/").host == longest
    with pytest.raises(ImageUrlRejected, match="not a host name"):
        parse(f"https://{longest}d/")


@pytest.mark.parametrize("host", ["a..example", "-a.example", "a-.example", f"{'a' * 64}.example", "images.example."])
def test_a_label_that_no_host_name_has_is_refused(host: str) -> None:
    with pytest.raises(ImageUrlRejected, match="not a host name"):
        parse(f"https://{host}/")


@pytest.mark.parametrize(
    "host", ["images", "localhost", "nas.local", "images.internal", "printer.home", "1.0.in-addr.arpa"]
)
def test_a_name_that_only_a_private_network_knows_is_refused(host: str) -> None:
    with pytest.raises(ImageUrlRejected, match="not a public one"):
        parse(f"https://{host}/")


def test_two_labels_are_enough_and_only_the_last_counts() -> None:
    assert [parse(f"https://{host}/").host for host in ("a.example", "local.example")] == ["a.example", "local.example"]
