"""One process and its life, with programs of a few lines in place of a runtime."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from local.replica import Replica, RuntimeDidNotStart
from tests.fakes import runtime as fake


def replica(directory: Path, program: tuple[str, ...] | None = None) -> tuple[Replica, list[bool], list[str]]:
    """A replica, what it told of its readiness, and the lines it passed on."""
    told: list[bool] = []
    lines: list[str] = []
    environment = {**os.environ, "RUNTIME_STORE_URL": str(directory / "store")}
    made = Replica(
        "runtime-0",
        environment,
        on_ready=told.append,
        emit=lines.append,
        program=program or (*fake.PROGRAM, str(directory)),
    )
    return made, told, lines


async def until(condition: object) -> None:
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110  (another process makes it true)
            await asyncio.sleep(0.01)


def test_it_is_started_again_when_it_dies(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        made, told, lines = replica(tmp_path)
        task = asyncio.create_task(made.run())
        await until(lambda: told == [True])
        first = made.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: told == [True, False, True])
        assert made.pid != first
        assert made.restarts == 1
        assert lines == ["fake runtime is up"] * 2
        made.drain()
        await task
        await made.runtime.close()
        return told

    assert asyncio.run(run()) == [True, False, True, False]


REFUSES = "import sys; print('{\"event\": \"loading\"}'); sys.exit('The bundle is damaged.')"
DIED = "The runtime ended while it was starting (exit code {}); its log is above."


@pytest.mark.parametrize(
    ("code", "sentence", "passed_on"),
    [
        (REFUSES, "The bundle is damaged.", 0),
        ("1 / 0", DIED.format(1), 3),
        ("import os; os.kill(os.getpid(), 9)", DIED.format(-9), 0),
    ],
)
def test_a_first_start_that_fails(tmp_path: Path, code: str, sentence: str, passed_on: int) -> None:
    async def run() -> None:
        made, *said = replica(tmp_path, ("-c", code))
        told.append(said)
        with pytest.raises(RuntimeDidNotStart, match=f"^{re.escape(sentence)}$"):
            await made.run()
        await made.runtime.close()

    told: list[Any] = []
    asyncio.run(run())
    ((readiness, lines),) = told
    assert readiness == []
    assert len(lines) >= passed_on


def test_draining_while_it_starts(tmp_path: Path) -> None:
    async def run() -> None:
        made, _, _ = replica(tmp_path, ("-c", "import time; time.sleep(600)"))
        task = asyncio.create_task(made.run())
        await until(lambda: made.pid)
        made.drain()
        await task
        await made.runtime.close()

    asyncio.run(run())


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async def run() -> None:
        code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
        made, _, _ = replica(tmp_path, ("-c", code))
        task = asyncio.create_task(made.run())
        await until(lambda: made.pid)
        made.drain()
        made.kill()
        await task
        await made.runtime.close()

    asyncio.run(run())


def test_cancelling_leaves_no_process(tmp_path: Path) -> None:
    async def run() -> int:
        made, told, _ = replica(tmp_path)
        task = asyncio.create_task(made.run())
        await until(lambda: told)
        pid = made.pid
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.runtime.close()
        assert pid
        return pid

    pid = asyncio.run(run())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_program_whose_parent_is_already_gone_does_not_start() -> None:
    async def run() -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "local.tether", "1", "-c", "print('started')"
        )
        return await process.wait()

    assert asyncio.run(run()) == 1
