"""What a newcomer waits for, and what they get on their disk: start to ready, and the serving environment's size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.measure import ROOT, Row, free_port, keep

COMMAND = "make bench PART=start"


def run() -> None:
    """Measure, print and keep everything of this part."""
    starts, goal = [], 20.0
    for number in range(5):
        starts.append(_start_to_ready())
        print(f"  start {number + 1} of 5: {starts[-1]:.2f} s", flush=True)
    metric, seconds = "installed to ready, fresh data directory", round(median(starts), 2)
    rows = [Row("start", metric, seconds, "s", COMMAND, f"<= {goal:g}", max(starts) <= goal)]
    for name in (".venv", ".venv-dev"):
        if (ROOT / name).exists():
            rows.append(Row("start", f"size of {name}", round(_megabytes(ROOT / name)), "MB", COMMAND))
    keep("start", rows, {"seconds_to_ready": starts})


def _start_to_ready() -> float:
    with tempfile.TemporaryDirectory() as data:
        python = ROOT / ".venv" / "bin" / "python"
        environment = {**os.environ, "PORT": str(free_port()), "DARKROOM_DATA_DIR": data}
        started = time.perf_counter()
        server = subprocess.Popen(
            [str(python) if python.exists() else sys.executable, "-m", "local"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert server.stdout
        for line in server.stdout:
            if "ready" in line.lower():
                break
        seconds = time.perf_counter() - started
        server.send_signal(signal.SIGTERM)
        server.communicate()
        return seconds


def _megabytes(folder: Path) -> float:
    listed = subprocess.run(["du", "-sm", str(folder)], capture_output=True, text=True, check=True)
    return float(listed.stdout.split()[0])
