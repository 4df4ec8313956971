"""One request being answered: what it says, who asks, and the services that answer it."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from urllib.parse import parse_qs, quote

from starlette.types import Message, Receive, Scope, Send

from api.answers import Answers, ProblemForm, rfc_9457
from api.callers import Identity
from api.limits.bodies import GiveBack, too_large, unpacked
from api.services import Services
from darkroom.bundles.manifest import EngineManifest
from darkroom.errors import AdministratorNeeded, MalformedRequest, RequestTimeout, UnsupportedMediaType
from darkroom.storage import ObjectStore

CALL = "darkroom.call"  # where an ASGI scope carries the call
_LONGEST_NUMBER = 20
_PLAIN, _GZIP = "identity", "gzip"
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 64 << 20
# No answer is taken for a page but those that are one: they say what they load.
_ON_EVERY_ANSWER = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


class Call:
    """`headers` has lower-case names; a header that came more than once is joined by commas.

    A server may know more than HTTP says: `scope["state"]` may hold its `request_id`, and the `identity` (see
    `api.callers`) of a caller whom it has checked itself. `status` is that of the answer, None before it has begun.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, services: Services) -> None:
        state = scope.get("state", {})
        self.scope = scope
        self.services = services
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = _joined(scope["headers"])
        self.request_id: str = state.get("request_id") or str(uuid.uuid4())
        self.tenant = ""  # nobody yet
        self.form: ProblemForm = rfc_9457  # how the caller reads errors
        self.body = b""
        self.give_back: GiveBack | None = None  # what the body takes of the memory for all bodies
        self.status: int | None = None
        self._identity: Identity | None = state.get("identity")
        self._receive = receive
        self._send = send
        # Some of the body is to come.
        self.unread = "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"

    # ---- what it says ---------------------------------------------------------------------------------------------

    @property
    def params(self) -> Mapping[str, str]:
        """The variables of the address."""
        params: Mapping[str, str] = self.scope["path_params"]
        return params

    @functools.cached_property
    def query(self) -> Mapping[str, str]:
        """A parameter that came more than once is joined by commas."""
        parsed = parse_qs(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return {name: ",".join(values) for name, values in parsed.items()}

    async def identify(self) -> None:
        """Find out the tenant. Raises: Unauthorized, AccessUnavailable."""
        self.tenant = await self.services.run(self.services.tenant, self._identity, self.headers)

    def administrator(self) -> str:
        """The tenant, who may do what concerns all of them. Raises: AdministratorNeeded."""
        if not self.services.settings.is_administrator(self.tenant):
            raise AdministratorNeeded("DARKROOM_ADMINS names the tenants who may change scaling and releases.")
        return self.tenant

    def manifest(self) -> EngineManifest:
        """Of the model in the address, where m stands for the default one. Raises: ModelNotFound, EngineIntegrity."""
        return self.manifest_of(self.params["model"])

    def manifest_of(self, name: str) -> EngineManifest:
        """Of a model, where m stands for the default one. Raises: ModelNotFound, EngineIntegrity."""
        return self.services.manifests.current(self.services.settings.default_model if name == "m" else name)

    @property
    def raw_path(self) -> str:
        """Still encoded: nothing in it steers a terminal."""
        raw: bytes | None = self.scope.get("raw_path")
        return quote(self.path) if raw is None else raw.decode("latin-1")

    @functools.cached_property
    def store(self) -> ObjectStore:
        """Where images lie; its URLs lead there for this caller."""
        at = self.services.store_at
        if at is None:
            return self.services.store
        return at(f"{self.scope['scheme']}://{self.headers.get('host', 'localhost')}")

    @property
    def answers(self) -> Answers:
        return Answers(self.store, self.services.settings, self.request_id, self.form)

    # ---- the connection -------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        message = await self._receive()
        self.unread = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._with_ours(message["headers"])
        await self._send(message)

    def announced(self, *, limit: int) -> int:
        """How many bytes the body has, or may have where its length is not told.

        Raises: PayloadTooLarge, before anything is read; MalformedRequest, for a length that is no number;
        UnsupportedMediaType, for an encoding other than gzip.
        """
        if self.headers.get("content-encoding", _PLAIN) not in (_PLAIN, _GZIP):
            raise UnsupportedMediaType("A body may be compressed by gzip; send it plain or so.")
        if "transfer-encoding" in self.headers:
            return limit
        length = self.headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise MalformedRequest("Content-Length is not a number.")
        if len(length) > _LONGEST_NUMBER or int(length) > limit:
            raise too_large(limit)
        return limit if self.headers.get("content-encoding") == _GZIP else int(length)

    def _with_ours(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """A handler's own headers stand before ours of the same name."""
        given = list(headers)
        names = {name.lower() for name, _ in given}
        ours = [(b"x-request-id", self.request_id.encode("latin-1")), *_ON_EVERY_ANSWER]
        return given + [one for one in ours if one[0] not in names]

    async def read(self, *, limit: int, seconds: float) -> bytes:
        """The whole request body; one that is too large is refused at the byte where it shows, or before.

        `limit` is for its bytes as they come and as they are unpacked. Raises: RequestTimeout, ClientGone; what
        `announced` and `unpacked` raise.
        """
        body = bytearray()

        async def keep(part: bytes) -> None:
            body.extend(part)

        await self.pass_on(keep, limit=limit, seconds=seconds)
        self.body = bytes(body)
        if self.headers.get("content-encoding") == _GZIP:
            self.body = await self.services.run(unpacked, self.body, limit)
        return self.body

    async def pass_on(self, take: Callable[[bytes], Awaitable[object]], *, limit: int, seconds: float) -> None:
        """`read`, for what is not to be held: `take` gets each part as it comes."""
        self.announced(limit=limit)
        length = 0
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    part = message.get("body", b"")
                    length += len(part)
                    if length > limit:
                        raise too_large(limit)
                    await take(part)
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            raise RequestTimeout(f"The body must arrive within {seconds:g} seconds.") from None

    async def forget_body(self) -> None:
        """What was in it is kept elsewhere; others may use the memory while this caller waits."""
        self.body = b""
        if self.give_back is not None:
            await self.give_back()

    async def gone(self) -> None:
        """Returns when the client has closed its connection; call it once the body is read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def send_and_close(self, message: Message) -> None:
        """`send`, for an answer after which the rest of the request is not wanted: the connection ends with it."""
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
            await self.send(message)
            return
        await self.send({**message, "more_body": True})
        await self._linger()
        await self.send({"type": "http.response.body", "body": b""})

    async def _linger(self) -> None:
        """Read on and forget for a while: closing on a client that still writes would take the answer from it."""
        if "expect" in self.headers:  # it waits for our leave to write
            return
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while self.unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def _joined(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers
