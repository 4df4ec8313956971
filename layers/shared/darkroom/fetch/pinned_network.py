"""httpcore's network, led to addresses that were checked before, under one deadline and one limit of bytes."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore

from darkroom.errors import ImageFetchTimeout, ImageTooLarge
from darkroom.fetch.addresses import Address


class Deadline:
    """One total time, in seconds of `clock`, which no single read can stretch."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self.error = ImageFetchTimeout(f"The image did not arrive within {seconds:g} seconds.")

    def left(self) -> float:
        """Seconds. Raises: ImageFetchTimeout, once there are none."""
        if (left := self._end - self._clock()) <= 0:
            raise self.error
        return left


class PinnedNetwork(httpcore.NetworkBackend):
    """Connects to one of `addresses`, in order, whatever host it is asked for; what it opens reads at most `limit`
    bytes."""

    def __init__(
        self, network: httpcore.NetworkBackend, addresses: Sequence[Address], deadline: Deadline, limit: int
    ) -> None:
        self._network = network
        self._addresses = addresses
        self._deadline = deadline
        self._limit = limit

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        *others, last = self._addresses
        for number, address in enumerate(others):
            share = self._deadline.left() / (len(self._addresses) - number)  # a dead address leaves time for the next
            try:
                stream = self._network.connect_tcp(str(address), port, share, None, socket_options)
                return PinnedStream(stream, self._deadline, self._limit)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        stream = self._network.connect_tcp(str(last), port, self._deadline.left(), None, socket_options)
        return PinnedStream(stream, self._deadline, self._limit)


class PinnedStream(httpcore.NetworkStream):
    """A connection whose every operation gets what is left of the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline, limit: int) -> None:
        self._stream = stream
        self._deadline = deadline
        self._left = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        data = self._stream.read(max_bytes, self._deadline.left())
        self._left -= len(data)
        if self._left < 0:
            raise ImageTooLarge
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._deadline.left())

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        try:
            left = self._deadline.left()
        except ImageFetchTimeout:
            self.close()  # httpcore leaves that to whoever refuses TLS
            raise
        return PinnedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline, self._left)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
