"""News of jobs inside one process."""

import asyncio

from api.waiting import News
from darkroom.contracts import GenerationRequest, Job, Progress
from local.replicas.bulletin import Bulletin

JOB = Job(id="job", tenant="default", model="crayon", request=GenerationRequest(prompt="a dog"), created_at=0.0)


def test_a_slow_reader_misses_steps_but_not_the_end() -> None:
    async def follow() -> list[News | None]:
        bulletin = Bulletin()
        with bulletin.watch("job") as watch:
            for step in range(5):
                bulletin.post("job", News(Progress(step=step, steps=5)))
            first = await watch.next(1)
            bulletin.post("job", News(finished=True))
            bulletin.post("job", News(Progress(step=9, steps=9)))
            return [first, await watch.next(1), await watch.next(0)]

    assert asyncio.run(follow()) == [News(Progress(step=4, steps=5)), News(finished=True), None]


def test_a_late_reader_hears_the_newest_at_once() -> None:
    async def follow() -> tuple[News | None, News | None]:
        bulletin = Bulletin()
        bulletin.post("job", News(Progress(step=3, steps=5)))
        with bulletin.watch("job") as watch:
            heard = await watch.next(0.001)
        bulletin.post("job", News(finished=True))
        with bulletin.watch("job") as watch:  # of a finished job nothing is remembered: the job store knows
            return heard, await watch.next(0)

    assert asyncio.run(follow()) == (News(Progress(step=3, steps=5)), None)


def test_a_withdrawal_reaches_worker_and_readers_from_any_thread() -> None:
    async def withdraw() -> bool:
        bulletin = Bulletin()
        with bulletin.working_on("job") as withdrawn, bulletin.watch("job") as watch:
            await asyncio.to_thread(bulletin.withdraw, JOB)
            await asyncio.wait_for(withdrawn.wait(), 10)
            return await watch.next(10) == News(finished=True)

    assert asyncio.run(withdraw())


def test_an_arrival_wakes_every_dispatcher_and_is_dated() -> None:
    async def submit() -> float | None:
        now = [10.0]
        bulletin = Bulletin(clock=lambda: now[0])
        with bulletin.arrivals() as first, bulletin.arrivals() as second:
            await asyncio.to_thread(bulletin.submit, JOB)
            await asyncio.wait_for(asyncio.gather(first.wait(), second.wait()), 10)
        now[0] = 17.0
        assert bulletin.age("another") is None
        return bulletin.age("job")

    assert asyncio.run(submit()) == 7.0


def test_closing_wakes_whoever_waits() -> None:
    async def close() -> bool:
        bulletin = Bulletin()
        with bulletin.watch("job") as watch:
            bulletin.close()
            assert await watch.next(10) is not None
        return bulletin.closed

    assert asyncio.run(close())
