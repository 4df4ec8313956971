"""How much of all callers' bodies is held at once."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from api.limits.bodies import Bodies
from darkroom.errors import Overloaded

LONG = 60.0


def test_one_caller_holds_a_quarter_and_the_others_have_the_rest() -> None:
    async def crowd() -> None:
        bodies = Bodies(80)
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(bodies.room("greedy", 10, seconds=LONG))
            with pytest.raises(Overloaded):
                await held.enter_async_context(bodies.room("greedy", 10, seconds=0))
            for name in ("ann", "bob", "eve"):
                await held.enter_async_context(bodies.room(name, 20, seconds=LONG))
            assert bodies.held == 80
            with pytest.raises(Overloaded):
                await held.enter_async_context(bodies.room("fred", 1, seconds=0))
        assert bodies.held == 0
        assert not bodies._by_caller

    asyncio.run(crowd())


def test_who_waits_is_served_when_another_gives_back_early() -> None:
    async def two() -> None:
        bodies = Bodies(40)

        async def second() -> int:
            async with bodies.room("ann", 10, seconds=LONG):
                return bodies.held

        async with bodies.room("ann", 10, seconds=LONG) as give_back:
            waiting = asyncio.create_task(second())
            await asyncio.sleep(0)
            assert not waiting.done()
            await give_back()
            await give_back()  # once is enough
            assert await waiting == 10
        assert bodies.held == 0

    asyncio.run(two())


def test_a_body_larger_than_a_share_is_held_alone() -> None:
    async def large() -> None:
        bodies = Bodies(40)
        async with bodies.room("ann", 100, seconds=LONG):
            with pytest.raises(Overloaded):
                async with bodies.room("bob", 1, seconds=0):
                    pass

    asyncio.run(large())
