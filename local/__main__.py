"""`python -m local`: object store, runtimes and API on this machine, until Ctrl-C or SIGTERM.

`python -m local plan POLICY` only shows what a scaling policy would do.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from darkroom import logs
from darkroom.settings import Settings, SettingsError
from local import data
from local.deployment import Deployment
from local.errors import CannotStart

_PROMPT = '{"prompt": "a large red heart on a blue background"}'


def main(arguments: Sequence[str] = ()) -> int:
    """Serve, or plan; the exit code is 0 after a stop that was asked for, 1 where it could not start."""
    if arguments:
        if arguments[0] == "plan":
            from local.plan.command import run  # serving needs none of it

            return run(list(arguments[1:]))
        print("darkroom: Run `python -m local` to serve, or `python -m local plan POLICY`.", file=sys.stderr)
        return 2
    return _serve_until_stopped()


def _serve_until_stopped() -> int:
    started = time.monotonic()
    os.umask(0o077)  # what callers ask for and get is nobody else's on this machine
    try:
        settings = Settings.read()
        logs.configure(settings.log_level, sys.stderr)
        logs.adopt("uvicorn.error", logging.ERROR)
        port = _port()
        if "max_wait_seconds" not in settings.model_fields_set:  # no gateway here cuts a request off
            settings = settings.model_copy(update={"max_wait_seconds": settings.job_seconds})
        with _listen(settings.host, port) as listener:
            here = settings.public_url or f"http://127.0.0.1:{port}"
            asyncio.run(_serve(data.prepare(settings), listener, here, started))
    except (CannotStart, SettingsError) as refused:
        print(f"darkroom: {refused}", file=sys.stderr)
        return 1
    return 0


async def _serve(settings: Settings, listener: socket.socket, here: str, started: float) -> None:
    print("darkroom: starting ...", file=sys.stderr, flush=True)

    def announce(ready: Deployment) -> None:
        print(_ready_line(ready, here, time.monotonic() - started), flush=True)

    deployment = Deployment(settings, listener, announce=announce, emit=logs.forward)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, deployment.stop)
    await deployment.run()


def _ready_line(deployment: Deployment, url: str, seconds: float) -> str:
    served = next(replica.readiness for replica in deployment.pool.replicas if replica.readiness.ready)
    key = " -H 'x-api-key: YOUR_KEY'" if deployment.settings.api_keys else ""
    return (
        f"darkroom is ready on {url} after {seconds:.1f} s: {served.model} {served.version}, {served.target}. Try:\n"
        f"  curl -X POST {url}/tione/v1/models/m:predict{key} -H 'Content-Type: application/json' -d '{_PROMPT}'"
    )


def _port() -> int:
    port = os.environ.get("PORT", "8080")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise CannotStart("PORT must be a number from 1 to 65535.")
    return int(port)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as refused:
        if refused.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"Port {port} is in use: stop what listens there, or choose another, as in `PORT=8081 make run`."
            ) from None
        reason = (refused.strerror or "refused").lower()
        raise CannotStart(f"{host}:{port} cannot be listened on ({reason}): choose another PORT.") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
