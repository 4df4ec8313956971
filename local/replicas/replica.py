"""One runtime process: started, watched, started again when it dies, drained in the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import httpx
import structlog

from darkroom.inference.http import HttpRuntime, Readiness

log = structlog.get_logger(part="pool")

RUNTIME = ("-m", "runtime", "serve")
_STARTING_PING, _RUNNING_PING = 0.1, 0.5  # seconds between two looks at /ping
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds before a dead runtime is started again
_STEADY_SECONDS = 60.0  # a runtime that lived this long did not die of its start
_UNREADY_SECONDS = 120.0  # one that is not ready for so long is killed
_DRAIN_SECONDS = 28.0  # the runtime itself gives up after 25
_KEPT_LINES = 200
_REFUSED = 1  # the runtime's own exit code, after one sentence; Python's too, after a traceback


class RuntimeDidNotStart(Exception):
    """One sentence for the operator."""


class Replica:
    """Owns the listening socket, so that a connection made while the process restarts waits for the next one.

    `on_ready` is called each time the runtime becomes ready or stops being so; `emit` gets its log, line by line. Lines
    of a process that is still starting are held back until it is ready, so that a refusal is one sentence.
    """

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        *,
        client: httpx.AsyncClient | None = None,
        on_ready: Callable[[bool], None],
        emit: Callable[[str], None],
        program: Sequence[str] = RUNTIME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.readiness = Readiness(status="starting")
        self.restarts = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.runtime = HttpRuntime(f"http://127.0.0.1:{self._listener.getsockname()[1]}", client)
        self._environment = environment
        self._on_ready = on_ready
        self._emit = emit
        self._program = program
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._held: deque[str] | None = None
        self._overdue = False
        self._stop = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def loaded(self) -> bool:
        """Whether its process has been ready and is still there, though it may be draining."""
        return self._held is None and self._process is not None and self._process.returncode is None

    async def run(self) -> None:
        """Keep one process alive until it is drained or killed, whatever it dies of.

        Raises: RuntimeDidNotStart, where it refused to start (a broken bundle, a wrong setting) and was never ready.
        """
        pause, ever_ready = _FIRST_PAUSE, False
        try:
            while not self._stop.is_set():
                started = self._clock()
                code, was_ready = await self._live()
                ever_ready = ever_ready or was_ready
                if self._stop.is_set():
                    return
                sentence = self._sentence(code)
                if code == _REFUSED and sentence and not ever_ready:
                    raise RuntimeDidNotStart(sentence)
                self._release_lines()
                if self._clock() - started > _STEADY_SECONDS:
                    pause = _FIRST_PAUSE
                log.warning(
                    "runtime died",
                    why=self._cause(code, sentence, starting=not was_ready),
                    replica=self.name,
                    exit_code=code,
                    starting_again_in=pause,
                )
                self.restarts += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._listener.close()

    def drain(self) -> None:
        """Let the process finish what it has, then end it."""
        self._stop.set()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self.kill)

    def kill(self) -> None:
        """End the process now."""
        self._stop.set()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _live(self) -> tuple[int, bool]:
        """One process from start to end: its exit code, and whether it was ever ready."""
        self._held = deque(maxlen=_KEPT_LINES)
        self._overdue = False
        descriptor = self._listener.fileno()
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "local.replicas.tether", str(os.getpid()), *self._program),
            env={**self._environment, "RUNTIME_FD": str(descriptor)},
            pass_fds=(descriptor,),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; the runtime gets a SIGTERM
        )
        if self._stop.is_set():
            process.terminate()
        watch = asyncio.create_task(self._watch(process))
        try:
            if process.stdout is not None:
                await self._forward(process.stdout)
            code = await process.wait()
        except asyncio.CancelledError:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            was_ready = self._held is None
            self._set_readiness(None)
        return code, was_ready

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        unready_since = self._clock()
        while True:
            readiness = await self.runtime.readiness()
            if readiness is not None and readiness.ready:
                self._release_lines()
            self._set_readiness(readiness)
            if self.readiness.ready:
                unready_since = self._clock()
            elif self._clock() - unready_since > _UNREADY_SECONDS and process.returncode is None:
                log.error("runtime is not ready; killing it", replica=self.name, seconds=_UNREADY_SECONDS)
                self._overdue = True
                process.kill()
            await asyncio.sleep(_RUNNING_PING if self._held is None else _STARTING_PING)

    def _set_readiness(self, readiness: Readiness | None) -> None:
        before, self.readiness = self.readiness, readiness or Readiness(status="starting")
        if before.ready != self.readiness.ready:
            self._on_ready(self.readiness.ready)

    async def _forward(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._hear(line.decode(errors="replace"))
            if len(rest) > 1 << 20:  # an endless line
                self._hear(rest.decode(errors="replace"))
                rest = b""
        if rest:
            self._hear(rest.decode(errors="replace"))

    def _hear(self, line: str) -> None:
        if self._held is None:
            self._emit(line)
        else:
            self._held.append(line)

    def _release_lines(self) -> None:
        held, self._held = self._held, None
        for line in held or ():
            self._emit(line)

    def _sentence(self, code: int) -> str | None:
        """What a process that never became ready gave as its reason, if it ended by itself with one."""
        if code not in (_REFUSED, os.EX_TEMPFAIL):
            return None
        plain = [line for line in self._held or () if line.strip() and not _is_log_record(line)]
        return plain[-1].strip() if plain and "Traceback (most recent call last):" not in plain else None

    def _cause(self, code: int, sentence: str | None, *, starting: bool) -> str:
        """What ended a process, in a sentence for the operator."""
        when = "while it was starting" if starting else "while it was serving"
        if self._overdue:
            return f"killed by us {when}: it was not ready for {_UNREADY_SECONDS:.0f} s"
        if code == -signal.SIGKILL:
            return f"killed by signal 9 {when}: perhaps out of memory"
        if code < 0:
            return f"killed by signal {-code} {when}"
        return sentence or f"ended with exit code {code} {when}; its log is above"


def _is_log_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
