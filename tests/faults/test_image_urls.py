"""Rows 31 to 39: where a stranger's URL may lead.

Every test that expects a refusal of an address also asserts that no socket was used for it: `sockets` records every
connect, send and look-up of this process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from darkroom.errors import (
    DarkroomError,
    ImageFetchFailed,
    ImageUrlRejected,
)
from darkroom.fetch.fetcher import Fetcher
from tests.fakes.remote import PUBLIC, Names, Remote, Sockets, WayTo

IMAGE = b"\x89PNG and what follows"


def rejected(url: str, **given: Any) -> DarkroomError:
    with pytest.raises(ImageUrlRejected) as refused:
        Fetcher(**given).fetch(url)
    return refused.value


# ---- addresses ----------------------------------------------------------------------------------------------------

ROW_31 = ["169.254.169.254", "localhost", "0.0.0.0", "127.0.0.1", "127.1.2.3", "10.0.0.1", "192.168.1.1", "172.16.0.1"]  # noqa: S104
NAMES_31 = ["LOCALHOST", "localhost.", "a.localhost", "metadata.google.internal", "printer.local", "kubernetes"]


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("host", [*ROW_31, *NAMES_31])
def test_row_31_addresses_of_our_own(sockets: Sockets, scheme: str, host: str) -> None:
    for port in ("", ":80", ":443", ":8080"):
        rejected(f"{scheme}://{host}{port}/latest/meta-data/", http=True)
        rejected(f"{scheme}://{host}{port}/latest/meta-data/")
    assert sockets.used == []


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "2852039166",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "0",
        "0x",
        "00000000127.0.0.1",
        "127.0.0.01",
        "256.256.256.256",
        "1.2.3.4.5",
        "a.0x10",
        "①②⑦.⓪.⓪.①",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "127。0。0。1",
        "１２７.0.0.1",
        "%31%32%37.0.0.1",
        "example.com%2f@127.0.0.1",
    ],
)
def test_row_32_other_spellings_of_addresses(sockets: Sockets, host: str) -> None:
    rejected(f"https://{host}/")
    assert sockets.used == []


ROW_33 = [
    "::1",
    "::",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::169.254.169.254",
    "2002:a9fe:a9fe::",
    "2002:7f00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fe80::1",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "3fff::1",
    "2600::5efe:10.0.0.1",
    "2600::200:5efe:10.0.0.1",
    "100::1",
    "5f00::1",
]


@pytest.mark.parametrize("address", ROW_33)
def test_row_33_ipv6_forms(sockets: Sockets, address: str) -> None:
    rejected(f"https://[{address}]/")
    rejected("https://images.example/", resolve=Names({"images.example": [[address]]}))
    assert sockets.used == []


def test_row_33_a_zone_is_no_part_of_a_url(sockets: Sockets) -> None:
    rejected("https://[fe80::1%25eth0]/")
    rejected("https://[fe80::1%eth0]/")
    assert sockets.used == []


ROW_34 = ["100.100.100.200", "168.63.129.16", "192.0.0.192", "169.254.0.23", "fd00:ec2::254"]


@pytest.mark.parametrize("address", ROW_34)
def test_row_34_metadata_services(sockets: Sockets, address: str) -> None:
    rejected(f"https://[{address}]/" if ":" in address else f"https://{address}/")
    rejected("https://images.example/", resolve=Names({"images.example": [[address]]}))
    assert sockets.used == []


# ---- URLs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://images.example/",
        "ftp://images.example/a.png",
        "data:text/html,hello",
        "jar:https://images.example/!/",
        "unix:///run/docker.sock",
        "//images.example/a.png",
        "images.example/a.png",
        "https:images.example",
        "https:///a.png",
        "https://",
        "",
    ],
)
def test_row_35_other_schemes(sockets: Sockets, url: str) -> None:
    rejected(url)
    assert sockets.used == []


def test_row_35_http_only_where_the_operator_says_so(sockets: Sockets) -> None:
    rejected("http://images.example/a.png", resolve=Names({}))
    assert sockets.used == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254\\@good.example/",
        "https://good.example\\@169.254.169.254/",
        "https://user@good.example/",
        "https://user:password@good.example/",
        "https://good.example:443@169.254.169.254/",
        "https://@good.example/",
        "https://good.example\t/",
        "https://good.example/\r\nHost: other",
        "https://good.example /",
        " https://good.example/",
        "https://good.exam\u00adple/",
        "https://good.example/\u202e",
        "https://good.example/\0",
        "https://good.example#@169.254.169.254/\\",
        "https://good..example/",
        "https://-good.example/",
        "https://good.example/" + "a" * 5000,
    ],
)
def test_row_36_what_parsers_read_differently(sockets: Sockets, url: str) -> None:
    rejected(url, http=True)
    assert sockets.used == []


@pytest.mark.parametrize(
    "port", ["22", "25", "80", "6379", "8080", "8443", "65536", "0", "", "0443", "4 43", "-1", "²²"]
)
def test_row_37_odd_ports(sockets: Sockets, port: str) -> None:
    rejected(f"https://good.example:{port}/", resolve=Names({}))
    assert sockets.used == []


# ---- redirects and names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [*ROW_31, *ROW_34, "[::1]", "[::ffff:127.0.0.1]", "2130706433"])
def test_row_38_a_redirect_to_a_private_address(remote: Remote, fetcher: Callable[..., Fetcher], address: str) -> None:
    host = f"[{address}]" if address.count(":") > 1 and "[" not in address else address
    remote.redirects("/", f"http://{host}/latest/meta-data/")
    network = WayTo(remote)
    with pytest.raises(ImageUrlRejected):
        fetcher(network=network).fetch("http://good.example/")
    assert network.connected == [(PUBLIC, 80)]
    assert remote.paths == ["/"]


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "//user@good.example/", "\\\\other.example", "ftp://a.example"]
)
def test_row_38_a_redirect_to_what_is_no_web_address(
    remote: Remote, fetcher: Callable[..., Fetcher], location: str
) -> None:
    remote.redirects("/", location)
    with pytest.raises(ImageUrlRejected):
        fetcher().fetch("http://good.example/")
    assert remote.paths == ["/"]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_row_38_three_hops_and_no_more(remote: Remote, fetcher: Callable[..., Fetcher], status: str) -> None:
    remote.redirects("/4", "/3", status)
    remote.redirects("/3", "http://other.example/2?a=b", status)
    remote.redirects("/2?a=b", "1", status)
    remote.redirects("/1", "/0", status)
    remote.serves("/0", IMAGE)
    names = Names({})
    assert fetcher(resolve=names).fetch("http://good.example/3") == IMAGE
    assert names.asked == ["good.example", "other.example", "other.example", "other.example"]
    with pytest.raises(ImageUrlRejected):
        fetcher().fetch("http://good.example/4")


def test_row_38_a_redirect_that_leads_nowhere(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    remote.serves("/", b"", status="302 Found")
    remote.serves("/two", b"", "Location: /0", "Location: http://127.0.0.1/", status="302 Found")
    remote.says("/bytes", b"HTTP/1.1 302 Found\r\nLocation: /\xff\xfe\r\n\r\n")
    for path in ("/", "/two", "/bytes"):
        with pytest.raises(ImageFetchFailed):
            fetcher().fetch(f"http://good.example{path}")


def test_row_39_the_checked_address_is_the_one_connected_to(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    remote.serves("/", IMAGE)
    rebinding = Names({"good.example": [[PUBLIC], ["127.0.0.1"]]})
    network = WayTo(remote)
    assert fetcher(resolve=rebinding, network=network).fetch("http://good.example/") == IMAGE
    assert rebinding.asked == ["good.example"]
    assert network.connected == [(PUBLIC, 80)]
    assert "\r\nHost: good.example\r\n" in remote.requests[0]


@pytest.mark.parametrize("bad", ["127.0.0.1", "10.0.0.1", "::1", "64:ff9b::7f00:1"])
def test_row_39_one_bad_record_rejects(sockets: Sockets, bad: str) -> None:
    for records in ([PUBLIC, bad], [bad, PUBLIC], ["2606:2800:220:1::1", bad]):
        rejected("https://good.example/", resolve=Names({"good.example": [records]}))
    assert sockets.used == []


def test_row_39_rebinding_between_two_hops(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    remote.redirects("/", "/again")
    names = Names({"good.example": [[PUBLIC], ["127.0.0.1"]]})
    with pytest.raises(ImageUrlRejected):
        fetcher(resolve=names).fetch("http://good.example/")
    assert remote.paths == ["/"]


def test_row_39_a_dead_address_leaves_the_other_one(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    remote.serves("/", IMAGE)
    records = ["2606:2800:220:1::1", PUBLIC]
    network = WayTo(remote, dead=records[:1])
    assert fetcher(resolve=Names({"good.example": [records]}), network=network).fetch("http://good.example/") == IMAGE
    assert [host for host, _ in network.connected] == records


# ---- what the operator allows, and what we send -------------------------------------------------------------------


def test_the_allow_list_lets_host_and_port_through_and_nothing_else(remote: Remote) -> None:
    remote.serves("/", IMAGE)
    here = f"127.0.0.1:{remote.port}"
    assert Fetcher(trusted=[here]).fetch(f"http://{here}/") == IMAGE
    for other in (f"127.0.0.1:{remote.port - 1}", f"127.0.0.2:{remote.port}", "127.0.0.1", f"[::1]:{remote.port}"):
        rejected(f"http://{other}/", trusted=[here])
    inside = Fetcher(trusted=["minio:9000"], resolve=Names({"minio": [["10.0.0.7"]]}), network=WayTo(remote))
    assert inside.fetch("http://minio:9000/") == IMAGE
    assert remote.requests[-1].count("Host: minio:9000") == 1


def test_nothing_of_this_process_is_sent_along(
    remote: Remote, fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    remote.serves("/1", b"", "Location: /2", "Set-Cookie: a=b", status="302 Found")
    remote.serves("/2", IMAGE)
    assert fetcher().fetch("http://good.example/1#fragment") == IMAGE
    for request in remote.requests:
        names = {line.partition(":")[0].lower() for line in request.split("\r\n")[1:] if line}
        assert names == {"host", "accept", "accept-encoding", "user-agent", "connection"}
        assert "fragment" not in request
