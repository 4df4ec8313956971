"""The only way a user's URL is ever downloaded: the address that was checked is the one connected to."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import cached_property
from urllib.parse import urljoin

import httpcore

from darkroom.errors import ImageFetchFailed, ImageTooLarge, ImageUrlRejected
from darkroom.fetch import web_address
from darkroom.fetch.addresses import Address, is_public
from darkroom.fetch.pinned_network import Deadline, PinnedNetwork
from darkroom.fetch.web_address import WebAddress

MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_WIRE_OVERHEAD = 1 << 20  # bytes on top of the body: headers, TLS records are not counted, chunk framing is

Resolve = Callable[[str, int], Sequence[Address]]


def resolve(host: str, port: int) -> list[Address]:
    """Every address that the system's resolver knows for a name. Raises: OSError, UnicodeError."""
    records = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    spelled = dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in records)
    return [ipaddress.ip_address(address) for address in spelled]


class Fetcher:
    """Downloads what strangers' URLs lead to, over https from public addresses, within a size and a time.

    A name is resolved once; each of its records is checked, one bad record refuses all, and the connection is made to
    a checked address, with TLS verified against the name. Up to 3 redirects are followed, each checked as the first
    URL was. No cookies, no credentials, no proxies from the environment, no compression; nothing that the remote says
    is told on. Safe to use from several threads.
    """

    def __init__(
        self,
        *,
        trusted: Collection[str] = (),
        http: bool = False,
        max_bytes: int = 20 << 20,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        resolve: Resolve = resolve,
        network: httpcore.NetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`trusted`: `host:port` pairs that are let through unchecked, by http too: for tests and private networks.

        `http` allows http:// on port 80; `seconds` is for everything together, from the name's look-up to the last
        byte, by `clock`. `resolve`, `network` and `tls` replace the system's resolver, its sockets and its trust.
        """
        self._trusted = frozenset(trusted)
        self._http = http
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._clock = clock
        self._resolve = resolve
        self._network = network or httpcore.SyncBackend()
        self._given_tls = tls

    def fetch(self, url: str) -> bytes:
        """The body that the URL leads to.

        Raises: ImageUrlRejected, ImageFetchFailed, ImageFetchTimeout, ImageTooLarge.
        """
        deadline = Deadline(self._seconds, self._clock)
        for _ in range(1 + MAX_REDIRECTS):
            address = web_address.parse(url, trusted=self._trusted, http=self._http)
            try:
                answer = self._get(address, deadline)
            except httpcore.TimeoutException:
                raise deadline.error from None
            except (httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError):
                raise ImageFetchFailed from None
            if isinstance(answer, bytes):
                return answer
            url = answer.url
        raise ImageUrlRejected(f"The URL redirects more than {MAX_REDIRECTS} times.")

    def _get(self, address: WebAddress, deadline: Deadline) -> bytes | _Redirect:
        addresses = self._checked(address, deadline)
        wire_limit = 8 * self._max_bytes + _WIRE_OVERHEAD  # a chunk of one byte is six on the wire
        connection = httpcore.HTTPConnection(
            httpcore.Origin(address.scheme.encode(), address.host.encode(), address.port),
            ssl_context=self._tls if address.scheme == "https" else None,
            network_backend=PinnedNetwork(self._network, addresses, deadline, wire_limit),
        )
        url = httpcore.URL(
            scheme=address.scheme.encode(),
            host=address.host.encode(),
            port=address.port,
            target=address.target.encode(),
        )
        headers: dict[bytes | str, bytes | str] = {
            "Host": address.authority,
            "Accept": "image/png, image/jpeg, image/webp",
            "Accept-Encoding": "identity",
            "User-Agent": "darkroom",
            "Connection": "close",
        }
        with closing(connection), connection.stream("GET", url, headers=headers) as response:
            if response.status in _REDIRECTS:
                return _Redirect.of(address, response)
            if response.status != 200:
                raise ImageFetchFailed
            return self._body(response)

    def _checked(self, address: WebAddress, deadline: Deadline) -> Sequence[Address]:
        """Where to connect to, all of it checked. Raises: ImageUrlRejected, ImageFetchFailed, ImageFetchTimeout."""
        if address.literal is not None:
            return [address.literal]  # checked where it was read
        records = self._look_up(address, deadline)
        if not records:
            raise ImageFetchFailed
        if not address.trusted and not all(is_public(record) for record in records):
            raise ImageUrlRejected("This host name does not lead to a public address.")
        return records

    def _look_up(self, address: WebAddress, deadline: Deadline) -> Sequence[Address]:
        """The resolver has no timeout of its own that we could set: whoever waits too long leaves it behind."""
        answer: Future[Sequence[Address]] = Future()

        def look_up() -> None:
            try:
                answer.set_result(self._resolve(address.host, address.port))
            except Exception as failed:
                answer.set_exception(failed)

        threading.Thread(target=look_up, name="resolve", daemon=True).start()
        try:
            return answer.result(deadline.left())
        except TimeoutError:
            raise deadline.error from None

    def _body(self, response: httpcore.Response) -> bytes:
        body = bytearray()
        for name, value in response.headers:
            if name.lower() == b"content-encoding" and value.strip().lower() != b"identity":
                raise ImageFetchFailed("The image was sent compressed, which was not asked for.")
            if name.lower() == b"content-length" and int(value) > self._max_bytes:  # httpcore has checked the number
                raise self._too_large
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large
        return bytes(body)

    @property
    def _too_large(self) -> ImageTooLarge:
        return ImageTooLarge(f"An image may have at most {self._max_bytes} bytes.")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or httpcore.default_ssl_context()


class _Redirect:
    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def of(cls, address: WebAddress, response: httpcore.Response) -> _Redirect:
        """Where it leads, still unchecked. Raises: ImageFetchFailed."""
        locations = [value for name, value in response.headers if name.lower() == b"location"]
        try:
            (location,) = locations
            return cls(urljoin(f"{address.scheme}://{address.authority}{address.target}", location.decode("ascii")))
        except ValueError:
            raise ImageFetchFailed from None
