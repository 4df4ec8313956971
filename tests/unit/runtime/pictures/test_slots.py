"""Who decodes when two tenants want to."""

from __future__ import annotations

import threading

from runtime.pictures.slots import Slots

PATIENCE = 60


class Work(threading.Thread):
    """Takes a slot and keeps it until it is told to go."""

    def __init__(self, slots: Slots, tenant: str) -> None:
        super().__init__(daemon=True)
        self.slots, self.tenant = slots, tenant
        self.begun, self.over = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self.slots.taken(self.tenant):
            self.begun.set()
            self.over.wait(PATIENCE)

    def end(self) -> None:
        self.over.set()
        self.join(PATIENCE)


def waiting(slots: Slots, tenants: int) -> None:
    """Returns once so many threads wait for a slot."""
    with slots._changed:
        slots._changed.notify_all()
    while sum(slots._waiting.values()) < tenants:
        threading.Event().wait(0.001)


def test_alone_a_tenant_has_all_of_them() -> None:
    slots = Slots(2)
    works = [Work(slots, "ann") for _ in range(3)]
    assert sum(work.begun.wait(PATIENCE) for work in works[:1]) == 1
    waiting(slots, 1)
    assert sum(work.begun.is_set() for work in works) == 2
    for work in works:
        work.over.set()
    for work in works:
        work.join(PATIENCE)
        assert work.begun.is_set()
    assert (slots._free, slots._held, slots._waiting) == (2, {}, {})


def test_who_has_none_goes_before_who_has_one() -> None:
    slots = Slots(2)
    first, second = Work(slots, "ann"), Work(slots, "ann")
    assert first.begun.wait(PATIENCE)
    assert second.begun.wait(PATIENCE)
    third = Work(slots, "ann")
    waiting(slots, 1)
    other = Work(slots, "bob")
    waiting(slots, 2)
    first.end()
    assert other.begun.wait(PATIENCE)
    assert not third.begun.is_set()
    for work in (second, other, third):
        work.end()
    assert third.begun.is_set()
