"""Become another program that the kernel kills when its parent dies: `python -m local.replicas.tether PID ARGUMENT...`.

Where the kernel cannot (it is Linux's prctl), the program simply starts. Killing is safe: work is on a lease, and
images are written whole or not at all.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, arguments: list[str]) -> None:
    """Replace this process by `python ARGUMENT...`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            sys.exit(1)
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606  (no shell is the point)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
