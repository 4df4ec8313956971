"""Somebody else's web server, of whatever intent, and the network that a fetcher takes for the way to it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import httpcore

from darkroom.fetch.addresses import Address

PUBLIC = "93.184.216.34"
Answer = Callable[[], Iterable[bytes]]


@dataclass
class Remote:
    """Answers each path with the raw bytes that are given for it, piece by piece until the client has gone.

    `connections` counts whoever connected, whether or not a request followed.
    """

    port: int
    connections: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [request.split()[1] for request in self.requests]

    def says(self, path: str, *pieces: bytes) -> None:
        self.answers[path] = lambda: pieces

    def serves(self, path: str, body: bytes, *headers: str, status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.says(path, "\r\n".join(lines).encode(), body)

    def redirects(self, path: str, location: str, status: str = "302 Found") -> None:
        self.serves(path, b"", f"Location: {location}", status=status)


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Remote]:
    """A Remote on a free port of 127.0.0.1."""
    listener = socket.create_server(("127.0.0.1", 0))
    remote = Remote(listener.getsockname()[1])

    def talk(connection: socket.socket) -> None:
        with suppress(OSError), tls.wrap_socket(connection, server_side=True) if tls else connection as stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += (read := stream.recv(65536))
                if not read or not head.startswith(b"G"):  # gone, or it speaks TLS to who does not
                    return
            remote.requests.append(head.decode("latin-1"))
            for piece in remote.answers.get(remote.paths[-1], lambda: [b"HTTP/1.1 404 Not Found\r\n\r\n"])():
                stream.sendall(piece)

    def listen() -> None:
        with suppress(OSError):  # closed: the end
            while True:
                connection, _ = listener.accept()
                remote.connections += 1
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield remote
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


class WayTo(httpcore.SyncBackend):
    """Every address leads to one Remote; `connected` records where the connections were meant to go."""

    def __init__(self, remote: Remote, *, dead: Iterable[str] = ()) -> None:
        self._remote = remote
        self._dead = set(dead)
        self.connected: list[tuple[str, int]] = []

    def connect_tcp(self, host: str, port: int, *rest: Any, **more: Any) -> httpcore.NetworkStream:
        self.connected.append((host, port))
        if host in self._dead:
            raise httpcore.ConnectError
        return super().connect_tcp("127.0.0.1", self._remote.port, *rest, **more)


@dataclass
class Names:
    """A resolver: each look-up of a name takes its next list of records, the last one for ever."""

    records: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str, _: int) -> list[Address]:
        self.asked.append(host)
        answers = self.records.get(host, [[PUBLIC]])
        return [ip_address(record) for record in (answers.pop(0) if len(answers) > 1 else answers[0])]


@dataclass
class Sockets:
    """What this process's sockets were told to reach, and which names it looked up."""

    used: list[str] = field(default_factory=list)

    def install(self, patch: Callable[[Any, str, Any], None]) -> Sockets:
        """`patch` sets an attribute for the time of a test (pytest's `monkeypatch.setattr`)."""
        for name in ("connect", "connect_ex", "sendto", "send", "sendall"):
            patch(socket.socket, name, self._recording(name, getattr(socket.socket, name)))
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            patch(socket, name, self._recording(name, getattr(socket, name)))
        return self

    def _recording(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*given: Any, **more: Any) -> Any:
            self.used.append(name)
            return real(*given, **more)

        return recorded
