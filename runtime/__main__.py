"""Wiring only: `python -m runtime [serve]`, configured by `RUNTIME_*` variables."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Serve; exit 0 after a signal. Where it cannot start, one sentence on stderr and exit 1, or `EX_TEMPFAIL` (75)
    where another try may find the cause gone."""
    # A signal that comes while the libraries are still being imported ends the process cleanly too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    if sys.argv[1:] not in ([], ["serve"]):
        sys.exit("usage: python -m runtime [serve]")

    from darkroom import logs
    from darkroom.settings import SettingsError
    from runtime import config
    from runtime.process import StartAgain, StartError, serve

    try:
        settings = config.load()
        logs.configure(settings.log_level, sys.stdout)
        logs.adopt("uvicorn.error")
        serve(settings)
    except StartAgain as error:
        print(f"runtime: {error}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    except (SettingsError, StartError) as error:
        sys.exit(f"runtime: {error}")
    sys.stdout.flush()
    os._exit(0)  # see `serve`: the interpreter's own end would wait for threads, or crash those inside a library


if __name__ == "__main__":
    main()
