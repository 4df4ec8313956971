"""The replica: one engine thread from loading to its end, and whether requests may come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum

import structlog

from darkroom.contracts import Invocation
from darkroom.errors import (
    DarkroomError,
    Draining,
    OutOfMemory,
    RuntimeUnavailable,
    StorageFull,
    StorageUnavailable,
)
from runtime.arrays import Floats
from runtime.metrics import Metrics
from runtime.serving.generation import Generation, Listener
from runtime.serving.service import Service

_RETRY_AFTER = 5
_MAY_PASS = (OutOfMemory, StorageFull, StorageUnavailable)  # another start may find it gone


class EngineStatus(StrEnum):
    LOADING = "loading"
    READY = "ready"
    HUNG = "hung"
    DRAINING = "draining"
    FAILED = "failed"


class EngineThread:
    """Its methods may be called from any thread; `load` and the service's loop run on the engine thread."""

    def __init__(
        self,
        load: Callable[[], Service],
        metrics: Metrics,
        *,
        on_failure: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` fetches, verifies and compiles a bundle, and raises DarkroomError where it is not good.

        `on_failure` is called from the engine thread when that or the warm-up went wrong; `failure` then says why, and
        `may_pass` whether it was the machine's or the store's state, and not the bundle, that was at fault.
        """
        self._load = load
        self.metrics = metrics
        self._on_failure = on_failure
        self._clock = clock
        self._log = structlog.get_logger()
        self._service: Service | None = None
        self._draining = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.failure: str | None = None
        self.may_pass = False
        metrics.ready.set_function(lambda: self.status is EngineStatus.READY)

    def start(self) -> None:
        """Load, warm up and serve, on the engine thread."""
        self._thread.start()

    @property
    def status(self) -> EngineStatus:
        if self.failure is not None:
            return EngineStatus.FAILED
        if self._draining:
            return EngineStatus.DRAINING
        if self._service is None:
            return EngineStatus.LOADING
        return EngineStatus.HUNG if self._service.loop.hung else EngineStatus.READY

    def describe(self) -> dict[str, str]:
        """The status and, once loaded, what is served."""
        return {"status": self.status.value, **(self._service.identity() if self._service else {})}

    def admit(self, invocation: Invocation, listener: Listener | None = None) -> Generation:
        """Accept a request. Raises Draining, RuntimeUnavailable, Overloaded, or what is wrong with the request."""
        status = self.status
        if status is EngineStatus.DRAINING:
            raise Draining
        if self._service is None or status is not EngineStatus.READY:
            raise RuntimeUnavailable(f"This replica is not ready: {status.value}.", retry_after=_RETRY_AFTER)
        return self._service.admit(invocation, listener)

    def preview(self, denoised: Floats) -> str:
        """An image on its way as a data URI; only for what an admitted generation's listener was given."""
        if self._service is None:
            raise RuntimeUnavailable
        return self._service.previewer.data_uri(denoised)

    def watch(self) -> None:
        """The watchdog's look; see `Loop.watch`."""
        if self._service is not None:
            self._service.loop.watch()

    def drain(self, seconds: float) -> None:
        """Not ready from now on; block until all in flight is finished, for `seconds` at most, then answer the rest.

        Called again while it runs, with 0 seconds, it answers the rest at once.
        """
        self._draining = True
        if self._service is None:
            return
        admission = self._service.admission
        admission.drain()
        if not admission.wait_until_idle(seconds):
            admission.give_up(Draining())

    def stop(self, seconds: float) -> None:
        """End the engine thread after its current step, and wait for that for `seconds` at most."""
        if self._service is not None:
            self._service.stop()
        self._thread.join(seconds)

    def _run(self) -> None:
        started = self._clock()
        try:
            service = self._load()
            service.warm()
        except DarkroomError as error:
            self._log.error("start failed", code=error.code, detail=error.detail, exc_info=error.__cause__)
            self._fail(error.detail, may_pass=isinstance(error, _MAY_PASS))
            return
        except MemoryError:
            self._log.exception("start failed")
            self._fail("There was not enough memory to start the engine.", may_pass=True)
            return
        except Exception as error:  # an engine library's own: its text is in the log, not in the sentence
            self._log.exception("start failed")
            self._fail(f"The engine could not be started ({type(error).__name__}); see the log.")
            return
        seconds = self._clock() - started
        identity = service.identity()
        self.metrics.target.info(identity)
        self.metrics.load_seconds.set(seconds)
        if self._draining:  # told to stop while it was loading
            return
        self._service = service
        service.share()
        self._log.info("ready", seconds=round(seconds, 3), **identity)
        service.loop.run()

    def _fail(self, reason: str, *, may_pass: bool = False) -> None:
        self.may_pass = may_pass
        self.failure = reason
        self._on_failure()
