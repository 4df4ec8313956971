"""Rows 40 to 43: what may come back from a stranger's URL."""

from __future__ import annotations

import datetime
import gzip
import itertools
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from darkroom.errors import (
    DarkroomError,
    ImageFetchFailed,
    ImageFetchTimeout,
    ImageTooLarge,
)
from darkroom.fetch.fetcher import Fetcher
from tests.fakes.remote import PUBLIC, Names, Remote, WayTo, serving

IMAGE = b"\x89PNG and what follows"
SECRET = "what-the-remote-says"


def fails(kind: type[DarkroomError], fetcher: Fetcher, url: str = "http://good.example/") -> None:
    """Assert on the error, and that neither URL nor answer shows in it."""
    with pytest.raises(kind) as refused:
        fetcher.fetch(url)
    told = refused.value.problem().model_dump_json()
    assert not any(word in told for word in (SECRET, "good.example", PUBLIC, "404", "500", "certificate"))


@pytest.mark.parametrize("status", ["404 " + SECRET, "403 No", "500 " + SECRET, "503 No", "204 No Content", "206 Part"])
def test_row_40_a_remote_error(remote: Remote, fetcher: Callable[..., Fetcher], status: str) -> None:
    remote.serves("/", SECRET.encode(), f"X-Secret: {SECRET}", status=status)
    fails(ImageFetchFailed, fetcher())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        SECRET.encode(),
        b"HTTP/1.1 2" + SECRET.encode(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 200_000,
        b"\x15\x03\x01\x00\x02\x02\x28",
    ],
)
def test_row_40_what_is_not_http(remote: Remote, fetcher: Callable[..., Fetcher], answer: bytes) -> None:
    remote.says("/", answer)
    fails(ImageFetchFailed, fetcher())


def test_row_40_nobody_answers(fetcher: Callable[..., Fetcher], remote: Remote) -> None:
    fails(ImageFetchFailed, fetcher(network=WayTo(remote, dead=[PUBLIC])))
    fails(ImageFetchFailed, fetcher(resolve=Names({"good.example": [[]]})))

    def unknown(host: str, port: int) -> list[Any]:
        raise OSError(SECRET)

    fails(ImageFetchFailed, fetcher(resolve=unknown))


def certificate(folder: Path, name: str) -> Path:
    """A file with a key and a certificate of its own signing."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *plain) + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_row_40_tls_is_verified_against_the_name(tmp_path: Path) -> None:
    kept = certificate(tmp_path, "good.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(kept)
    trust = ssl.create_default_context(cafile=kept)
    with serving(server) as remote:
        remote.serves("/", IMAGE)
        network = WayTo(remote)
        ours: dict[str, Any] = {"resolve": Names({}), "network": network}
        assert Fetcher(**ours, tls=trust).fetch("https://good.example/") == IMAGE
        assert network.connected == [(PUBLIC, 443)]
        fails(ImageFetchFailed, Fetcher(**ours, tls=trust), "https://other.example/")  # another's certificate
        fails(ImageFetchFailed, Fetcher(**ours), "https://good.example/")  # nobody's whom the system trusts
    with serving() as plain:
        fails(ImageFetchFailed, Fetcher(resolve=Names({}), network=WayTo(plain)), "https://good.example/")


def endless(piece: bytes) -> Iterator[bytes]:
    return itertools.repeat(piece)


def test_row_41_a_length_over_the_cap_is_refused_unread(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    remote.says("/", b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")  # and not a byte of the body
    fails(ImageTooLarge, fetcher(max_bytes=1000))
    remote.says("/", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x" * 1000)
    assert fetcher(max_bytes=1000).fetch("http://good.example/") == b"x" * 1000


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"x" * 65536),  # no length: until the connection closes, which is never
        (b"Transfer-Encoding: chunked\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n" * 1000),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    ],
)
def test_row_41_endless_bodies(remote: Remote, fetcher: Callable[..., Fetcher], head: bytes, piece: bytes) -> None:
    remote.answers["/"] = lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n" + head + b"\r\n"], endless(piece))
    fails(ImageTooLarge, fetcher(max_bytes=100_000))


def test_row_41_endless_framing(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    """Nothing but interim answers, which no limit of the body counts."""
    remote.answers["/"] = lambda: endless(b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 10_000 + b"\r\n\r\n")
    fails(ImageTooLarge, fetcher(max_bytes=1000))


def test_row_41_a_false_length_is_what_is_read(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    remote.says("/", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"12345678")
    assert fetcher().fetch("http://good.example/") == b"12345"


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    ],
)
def test_row_42_a_byte_a_second(remote: Remote, fetcher: Callable[..., Fetcher], beginning: bytes) -> None:
    """Each look at the clock finds a second gone; the bytes never end, so only the deadline can."""
    remote.answers["/"] = lambda: itertools.chain([beginning], endless(b"x"))
    fails(ImageFetchTimeout, fetcher(clock=itertools.count().__next__, seconds=8, max_bytes=10**9))


def test_row_42_redirects_share_one_deadline(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    remote.redirects("/", "/again")
    remote.redirects("/again", "/more")
    remote.serves("/more", IMAGE)
    fails(ImageFetchTimeout, fetcher(clock=itertools.count().__next__, seconds=8))


def test_row_42_a_deadline_before_tls_leaves_no_socket_open(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    opened = []

    class Watched(WayTo):
        def connect_tcp(self, *given: Any, **more: Any) -> Any:
            opened.append(super().connect_tcp(*given, **more))
            return opened[-1]

    looks = itertools.count()
    late = fetcher(network=Watched(remote), clock=lambda: 0 if next(looks) < 3 else 99, seconds=8)
    fails(ImageFetchTimeout, late, "https://good.example/")
    assert [stream.get_extra_info("socket").fileno() for stream in opened] == [-1]


def test_row_42_silence(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    silence = threading.Event()

    def silent() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        silence.wait(60)

    remote.answers["/"] = silent
    fails(ImageFetchTimeout, fetcher(seconds=0.05))
    silence.set()


def test_row_42_a_resolver_that_says_nothing(fetcher: Callable[..., Fetcher]) -> None:
    silence = threading.Event()

    def silent(host: str, port: int) -> list[Any]:
        silence.wait(60)
        return []

    fails(ImageFetchTimeout, fetcher(resolve=silent, seconds=0.05))
    silence.set()


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip"])
def test_row_43_identity_encoding_only(remote: Remote, fetcher: Callable[..., Fetcher], encoding: str) -> None:
    remote.serves("/", gzip.compress(bytes(10**7)), f"Content-Encoding: {encoding}")
    fails(ImageFetchFailed, fetcher())
    assert "\r\nAccept-Encoding: identity\r\n" in remote.requests[0]


def test_row_43_a_bomb_under_another_name_stays_packed(remote: Remote, fetcher: Callable[..., Fetcher]) -> None:
    bomb = gzip.compress(bytes(10**7))
    remote.serves("/", bomb, "Content-Encoding: identity")
    assert fetcher().fetch("http://good.example/") == bomb
