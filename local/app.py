"""The edge of one machine: an ASGI application around the real Lambda handler and what only exists here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog
from starlette.types import Receive, Scope, Send

from darkroom.errors import DarkroomError, Draining, MalformedRequest, PayloadTooLarge, RequestTimeout
from functions.answers import Answers
from local import live_events, metrics, objects
from local.adapter import LambdaAdapter
from local.exchange import ClientGone, Exchange
from local.live_events import LiveEvents
from local.metrics import Metrics
from local.objects import SignedObjects

log = structlog.get_logger(part="api")

STUDIO = Path(__file__).resolve().parent.parent / "web" / "studio.html"
_ROUTINE = ("/ping", "/metrics")  # asked every few seconds by machines
_STUDIO_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self' https:; "
    "img-src 'self' data: blob: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LocalApp:
    """Sends every request to its route; turns every error into a problem; logs and counts every answer.

    `draining` is asked before anything new is accepted.
    """

    def __init__(
        self,
        adapter: LambdaAdapter,
        live: LiveEvents,
        signed_objects: SignedObjects | None,
        prometheus: Metrics,
        *,
        draining: Callable[[], bool],
    ) -> None:
        self._adapter = adapter
        self._live = live
        self._objects = signed_objects
        self._metrics = prometheus
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, started = Exchange(scope, receive, send), time.monotonic()
        try:
            await self._route(exchange)
        except ClientGone:
            pass
        except DarkroomError as error:
            close = isinstance(error, MalformedRequest | PayloadTooLarge | RequestTimeout)
            await exchange.answer(self._answers(exchange).problem(error), close=close)
        except Exception as error:
            log.error("unexpected error", request=exchange.request_id, exc_info=error)
            if exchange.status is not None:  # too late for another answer: let the connection break
                raise
            await exchange.answer(self._answers(exchange).problem(DarkroomError()))
        finally:
            seconds = time.monotonic() - started
            self._metrics.answered(exchange, seconds)
            tell = log.debug if exchange.path in _ROUTINE else log.info
            tell(
                "answered",
                method=exchange.method,
                path=exchange.scope["raw_path"].decode("latin-1"),  # still encoded: nothing in it steers a terminal
                status=exchange.status or "client gone",
                milliseconds=round(seconds * 1000),
                request=exchange.request_id,
            )

    async def _route(self, exchange: Exchange) -> None:
        path = exchange.path
        if {"transfer-encoding", "content-length"} <= exchange.headers.keys():  # how requests are smuggled past a proxy
            raise MalformedRequest("A request has a Content-Length or a Transfer-Encoding, not both.")
        if self._objects is not None and path.startswith(objects.PREFIX):
            await self._objects(exchange)
        elif (path == metrics.PATH or path.startswith(f"{metrics.PATH}/")) and exchange.method == "GET":
            await self._metrics(exchange)
        elif path == "/" and exchange.method in ("GET", "HEAD"):
            policy = {"Content-Security-Policy": _STUDIO_POLICY, "Cache-Control": "no-cache"}
            await exchange.respond(200, STUDIO.read_bytes(), "text/html; charset=utf-8", policy)
        elif live_events.PATH.fullmatch(path):
            await self._live(exchange)
        elif exchange.method == "POST" and self._draining():
            raise Draining(retry_after=5)
        else:
            await self._adapter(exchange)

    def _answers(self, exchange: Exchange) -> Answers:
        wiring = self._adapter.wiring
        return Answers(wiring.store, wiring.settings, exchange.request_id)
