"""Who computes when."""

import asyncio

from api.limits.turns import Turns


class Machine:
    """Runs each piece when it is told to, and remembers who began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.at_work = self.most = 0

    async def run(self, work, *args):
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        await asyncio.sleep(0)
        self.begun.append(work(*args))
        self.at_work -= 1
        return work(*args)


def test_callers_take_turns_however_much_one_of_them_sends() -> None:
    machine = Machine()

    async def crowd() -> None:
        turns = Turns(machine.run)
        greedy = [asyncio.create_task(turns.take("greedy", str, "greedy")) for _ in range(50)]
        await asyncio.sleep(0)
        modest = [asyncio.create_task(turns.take(name, str, name)) for name in ("ann", "bob")]
        assert await asyncio.gather(*modest) == ["ann", "bob"]
        assert sum(task.done() for task in greedy) <= 3
        await asyncio.gather(*greedy)

    asyncio.run(crowd())
    assert machine.most == 1
    assert len(machine.begun) == 52


def test_nobody_is_remembered() -> None:
    async def one() -> int:
        turns = Turns(Machine().run)
        await turns.take("ann", str, "ann")
        return len(turns._callers)

    assert asyncio.run(one()) == 0
