"""One process and its life, with programs of a few lines in place of a runtime."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
import structlog

from local.replicas.replica import Replica, RuntimeDidNotStart
from tests.fakes import runtime as fake


def replica(directory: Path, program: tuple[str, ...] | None = None) -> tuple[Replica, list[bool], list[str]]:
    """A replica, the changes of its readiness, and the lines it passed on."""
    changes: list[bool] = []
    lines: list[str] = []
    environment = {**os.environ, "RUNTIME_STORE_URL": str(directory / "store")}
    created = Replica(
        "runtime-0",
        environment,
        on_ready=changes.append,
        emit=lines.append,
        program=program or (*fake.PROGRAM, str(directory)),
    )
    return created, changes, lines


async def until(condition: object) -> None:
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110  (another process makes it true)
            await asyncio.sleep(0.01)


def test_it_is_started_again_when_it_dies(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        tested, changes, lines = replica(tmp_path)
        task = asyncio.create_task(tested.run())
        await until(lambda: changes == [True])
        first = tested.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: changes == [True, False, True])
        assert tested.pid != first
        assert tested.restarts == 1
        assert lines == ["fake runtime is up"] * 2
        tested.drain()
        await task
        await tested.runtime.close()
        return changes

    assert asyncio.run(run()) == [True, False, True, False]


SAYS = "import sys; print('{\"event\": \"loading\"}'); print('The bundle is damaged.', file=sys.stderr); "


def test_a_first_start_that_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        refusing, ready, lines = replica(tmp_path, ("-c", SAYS + "sys.exit(1)"))
        with pytest.raises(RuntimeDidNotStart, match=r"^The bundle is damaged\.$"):
            await refusing.run()
        await refusing.runtime.close()
        assert (ready, lines) == ([], [])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("code", "why", "passed_on"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9 while it was starting: perhaps out of memory", 0),
        ("import os; os.abort()", "killed by signal 6 while it was starting", 0),
        ("1 / 0", "ended with exit code 1 while it was starting; its log is above", 3),
        ("import sys; sys.exit(7)", "ended with exit code 7 while it was starting; its log is above", 0),
        (SAYS + "sys.exit(75)", "The bundle is damaged.", 2),
    ],
)
def test_a_first_start_that_dies_is_tried_again(tmp_path: Path, code: str, why: str, passed_on: int) -> None:
    """The first process dies of `code`; the second is a runtime."""
    program = (
        f"import asyncio, pathlib, sys\nonce = pathlib.Path({str(tmp_path / 'once')!r})\n"
        f"if not once.exists():\n    once.touch()\n    {code}\n"
        "from tests.fakes import runtime\nasyncio.run(runtime.main())"
    )

    async def run() -> None:
        dying, ready, lines = replica(tmp_path, ("-c", program, str(tmp_path)))
        task = asyncio.create_task(dying.run())
        await until(lambda: ready or task.done())
        assert (ready, dying.restarts) == ([True], 1)
        assert len(lines) >= passed_on
        dying.drain()
        await task
        await dying.runtime.close()

    with structlog.testing.capture_logs() as logged:
        asyncio.run(run())
    (died,) = [line for line in logged if line["event"] == "runtime died"]
    assert died["why"] == why


def test_one_that_we_killed_did_not_run_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.replicas.replica._UNREADY_SECONDS", 0.0)

    async def run() -> None:
        hanging, _, _ = replica(tmp_path, ("-c", "import signal; signal.pause()"))
        task = asyncio.create_task(hanging.run())
        await until(lambda: hanging.restarts)
        hanging.kill()
        await task
        await hanging.runtime.close()

    with structlog.testing.capture_logs() as logged:
        asyncio.run(run())
    assert "killed by us while it was starting: it was not ready for 0 s" in [line.get("why") for line in logged]


def test_draining_while_it_starts(tmp_path: Path) -> None:
    async def run() -> None:
        tested, _, _ = replica(tmp_path, ("-c", "import time; time.sleep(600)"))
        task = asyncio.create_task(tested.run())
        await until(lambda: tested.pid)
        tested.drain()
        await task
        await tested.runtime.close()

    asyncio.run(run())


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async def run() -> None:
        code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
        tested, _, _ = replica(tmp_path, ("-c", code))
        task = asyncio.create_task(tested.run())
        await until(lambda: tested.pid)
        tested.drain()
        tested.kill()
        await task
        await tested.runtime.close()

    asyncio.run(run())


def test_cancelling_leaves_no_process(tmp_path: Path) -> None:
    async def run() -> int:
        tested, changes, _ = replica(tmp_path)
        task = asyncio.create_task(tested.run())
        await until(lambda: changes)
        pid = tested.pid
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await tested.runtime.close()
        assert pid
        return pid

    pid = asyncio.run(run())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_program_whose_parent_is_already_gone_does_not_start() -> None:
    async def run() -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "local.replicas.tether", "1", "-c", "print('started')"
        )
        return await process.wait()

    assert asyncio.run(run()) == 1
