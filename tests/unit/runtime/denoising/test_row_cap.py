"""How many rows pay, learned from calls whose costs are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runtime.denoising.row_cap import RowCap

CURVES = {
    "every doubling pays": ({2: 6.2, 4: 4.1, 8: 3.2, 16: 2.7}, 16),
    "sixteen cost more again": ({2: 4.9, 4: 3.4, 8: 2.7, 16: 3.2}, 8),
    "the last gain is too small": ({2: 6.2, 4: 4.1, 8: 3.2, 16: 3.1}, 8),
    "none pays": ({2: 1500.0, 4: 1495.0, 8: 1495.0, 16: 1495.0}, 2),
    "they cost": ({2: 10.0, 4: 12.0, 8: 14.0, 16: 16.0}, 2),
}
Cost = Callable[[int], float]  # rows -> a row's


def serve(paying: RowCap, cost: Cost, waiting: int = 1000) -> Iterator[tuple[int, bool]]:
    """Calls with as many rows as are allowed and wait; what each had, and whether it settled the cap."""
    while True:
        rows = min(paying.cap, waiting)
        yield rows, paying.record(rows, rows * cost(rows))


def until_settled(paying: RowCap, cost: Cost, waiting: int = 1000) -> list[int]:
    calls = []
    for rows, settled in serve(paying, cost, waiting):
        calls.append(rows)
        if settled:
            return calls
        assert len(calls) < 2000, "it never settles"
    raise AssertionError


@pytest.mark.parametrize("curve", CURVES)
def test_it_doubles_while_that_is_worth_it(curve: str) -> None:
    costs, best = CURVES[curve]
    paying = RowCap(16)
    until_settled(paying, costs.__getitem__)
    assert paying.cap == best


@pytest.mark.parametrize("most", [2, 3, 6, 8])
def test_never_more_than_the_most(most: int) -> None:
    paying = RowCap(most)
    calls = until_settled(paying, lambda rows: 1 / rows)
    assert max(calls) == paying.cap == most


def test_few_and_many_take_turns_so_that_a_slower_machine_misleads_nobody() -> None:
    paying, slower = RowCap(4), iter(range(1, 1000))
    calls = until_settled(paying, lambda rows: {2: 6.0, 4: 4.0}[rows] * 1.05 ** next(slower))
    assert calls == [2, 4] * 5
    assert paying.cap == 4


def test_calls_that_something_else_slowed_do_not_count() -> None:
    paying, calls = RowCap(8), iter(range(1000))
    until_settled(paying, lambda rows: {2: 6.0, 4: 4.0, 8: 3.0}[rows] * (1 if next(calls) % 10 > 6 else 50))
    assert paying.cap == 8


def test_where_too_few_wait_nothing_is_decided_and_the_larger_cap_holds() -> None:
    paying = RowCap(8)
    calls = serve(paying, lambda rows: 1 / rows, waiting=2)
    assert not any(settled for _, (_, settled) in zip(range(2000), calls, strict=False))
    assert paying.cap == 4, "who comes second is taken along"
    assert until_settled(paying, lambda rows: 1 / rows)[-1] == paying.cap == 8


def test_it_is_learned_anew() -> None:
    paying = RowCap(8)
    until_settled(paying, lambda _: 1.0)
    assert paying.cap == 2
    again = until_settled(paying, lambda rows: 1 / rows)
    assert again[:1000] == [2] * 1000
    assert paying.cap == 8
