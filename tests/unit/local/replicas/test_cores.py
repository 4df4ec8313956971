"""Cores and who has which."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.replicas import cores

LINUX = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads are placed on Linux only")


@pytest.mark.parametrize(
    ("count", "replicas", "shares"),
    [
        (4, 1, [[0, 1, 2, 3]]),
        (4, 2, [[0, 1], [2, 3]]),
        (5, 2, [[0, 1], [2, 3, 4]]),
        (2, 3, [[0], [0], [1]]),
        (0, 2, [[], []]),
        (4, 0, []),
    ],
)
def test_a_share_each(count, replicas, shares):
    assert [list(share) for share in cores.divided(range(count), replicas)] == shares


@pytest.mark.parametrize("replicas", range(1, 9))
def test_shares_are_even_and_leave_no_core_out(replicas):
    shares = cores.divided(range(8), replicas)
    assert [core for share in shares for core in share] == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@LINUX
def test_every_thread_is_moved_and_later_ones_follow():
    """A process with a thread of its own, which begins another when it reads a line."""
    program = (
        "import os, sys, threading\n"
        "def born(): print(*os.sched_getaffinity(0), flush=True); threading.Event().wait()\n"
        "def bears():\n"
        "    print('up', flush=True); sys.stdin.readline()\n"
        "    threading.Thread(target=born, daemon=True).start(); threading.Event().wait()\n"
        "threading.Thread(target=bears).start()"
    )
    last = cores.processors()[-1]
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        cores.confine(child.pid, [last])
        threads = [int(task.name) for task in Path(f"/proc/{child.pid}/task").iterdir()]
        assert len(threads) == 2
        assert [os.sched_getaffinity(thread) for thread in threads] == [{last}] * 2
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline().split() == [str(last)]
    finally:
        child.kill()
        child.communicate()


@LINUX
def test_a_process_that_has_ended_is_nobodys_error():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    cores.confine(child.pid, cores.processors())


@LINUX
def test_a_container_quota_is_left_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.sched_getaffinity(0)
    monkeypatch.setattr(cores, "allowed", lambda: len(here))
    assert cores.processors() == sorted(here)
    monkeypatch.setattr(cores, "allowed", lambda: len(here) - 1)
    assert cores.processors() == []
