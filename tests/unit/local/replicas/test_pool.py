"""How many processes a pool starts."""

import asyncio
from pathlib import Path

import pytest

from darkroom.jobs.sql import SqlJobStore
from darkroom.settings import Settings
from local.replicas import pool
from local.replicas.bulletin import Bulletin

NEVER_READY = ("-c", "import time; time.sleep(600)")


@pytest.mark.parametrize(("room", "started"), [(100, 4), (3, 3), (1, 1)])
def test_no_more_start_than_fit_and_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, room: int, started: int
) -> None:
    """A policy that asks for a thousand brought a machine down."""
    monkeypatch.setattr(pool, "most_replicas", lambda _pids: room)
    jobs = SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")

    async def run() -> None:
        tested = pool.Pool(Settings(), jobs, Bulletin(), emit=lambda _line: None, program=NEVER_READY)
        running = asyncio.create_task(tested.run())
        while not tested.replicas[0].pid:  # noqa: ASYNC110 (it runs once its first process is there)
            await asyncio.sleep(0.01)
        for _ in range(2):  # the second time those of the first have not become ready
            tested.resize(1000)
            assert tested.wanted == started
        tested.abort()
        await running

    asyncio.run(run())
    jobs.close()
